use super::*;
use proptest::prelude::*;

/// Texts full of what the rule is about, and arbitrary ones.
fn text() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&[u8]] = &[
        b"%:",
        b"%=",
        b"%",
        b"%25",
        b"%00",
        b"%FF",
        b"%ff",
        b"%2F",
        b"%2E",
        b".",
        b"..",
        b"\0",
        b"\xff",
        b"\xe9",
        b"\xf0\x9f",
        "é".as_bytes(),
        b"a",
        b":",
        b"=",
        b"25",
        b"\n",
        b"\x01",
    ];
    let pieces = prop::collection::vec(prop::sample::select(PIECES), 0..8).prop_map(|pieces| pieces.concat());
    prop_oneof![4 => pieces, 1 => prop::collection::vec(any::<u8>(), 0..12)]
        .prop_map(|text| text.into_iter().filter(|byte| *byte != b'/').collect())
}

fn is_name(text: &[u8]) -> bool {
    !matches!(text, b"" | b"." | b"..") && !text.contains(&0) && !text.starts_with(BESIDE.as_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// SEMANTICS: "What only one side can hold is encoded behind a mark, reversibly: every key that can be
    /// asked for has one path, and no two keys have the same."
    #[test]
    fn every_component_has_a_name_and_comes_back(text in text()) {
        if let Ok(text) = std::str::from_utf8(&text) {
            let name = shown(text);
            prop_assert!(is_name(&name), "{name:?}");
            prop_assert_eq!(component(&name), text);
        }
    }

    /// SEMANTICS: "What only one side can hold is encoded behind a mark, reversibly: every key that can be
    /// asked for has one path, and no two keys have the same."
    #[test]
    fn every_name_has_a_component_and_comes_back(text in text()) {
        if is_name(&text) {
            let component = component(&text);
            prop_assert_eq!(shown(&component).into_owned(), text);
        }
    }

    /// SEMANTICS: "A key is cut at its slashes, and each component is a file name of the same text."
    #[test]
    fn what_is_legal_on_both_sides_and_has_no_mark_is_the_same(text in text()) {
        if let Ok(text) = std::str::from_utf8(&text)
            && is_name(text.as_bytes())
            && !text.starts_with(MARK)
        {
            prop_assert_eq!(shown(text).into_owned(), text.as_bytes());
            prop_assert_eq!(component(text.as_bytes()), text);
        }
    }
}

/// SEMANTICS: "`nul␀` | `%:nul%00` | NUL, as `%00`; `%` beside it as `%25`"
/// SEMANTICS: "`%:latin-%E9` | `latin-\xe9` | a file name that is not UTF-8, which no key can hold"
/// SEMANTICS: "`%=a`, `%:..` | `%:%25=a`, `%:%25:..` | a text that would pass for one of the above: one more
/// level"
/// SEMANTICS: "`%:hello` | `%:hello` | a text behind the mark that is no encoding"
#[test]
fn the_examples_of_the_documentation() {
    for (component_text, name) in [
        ("plain", &b"plain"[..]),
        ("100%", b"100%"),
        ("", b"%:"),
        (".", b"%:."),
        ("..", b"%:.."),
        ("nul\0", b"%:nul%00"),
        ("5%\0", b"%:5%25%00"),
        ("%:latin-%E9", b"latin-\xe9"),
        ("%=a", b"%:%25=a"),
        ("%:hello", b"%:hello"),
        ("%:..", b"%:%25:.."),
        ("%:%25:..", b"%:%25:%2525:.."),
        ("%:%25:latin-%25E9", b"%:latin-%E9"),
    ] {
        assert_eq!(shown(component_text).as_ref(), name, "{component_text:?}");
        assert_eq!(component(name), component_text, "{name:?}");
    }
}
