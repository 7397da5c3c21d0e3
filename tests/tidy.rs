//! House rules that no compiler checks: layers, length of files, and what must not be left lying in the sources.

#![allow(clippy::unwrap_used, reason = "in a test, whatever fails fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use tarn_tests::{paths, semantics};

/// No file of code is longer, not even with its tests.
const LONGEST: usize = 600;

/// The layers of tarn-fs, top to bottom. A module may use what stands in its own layer or below.
const LAYERS: &[&[&str]] = &[
    &["main", "cli"],
    &["mount", "demo", "doctor", "keeper", "control"],
    &["fuse"],
    &["vfs"],
    &["inode", "meta", "read", "write", "journal", "session_log", "quota"],
    &["store", "embedded"],
    &["error", "config", "spec", "clock", "process", "telemetry"],
    &["name"],
];

/// `error` turns the errors of these into its own, so it must know their types; it uses nothing else of them.
const ERROR_SOURCES: &[&str] = &["store"];

fn sources(dir: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !matches!(name, "target" | ".git" | ".tools" | ".cargo") {
                sources(&path, extensions, found);
            }
        } else if extensions.contains(&path.extension().unwrap_or_default().to_str().unwrap()) {
            found.push(path);
        }
    }
}

/// Every text file of the project: path relative to the root, and content.
fn texts(extensions: &[&str]) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    sources(paths::root(), extensions, &mut paths);
    paths.sort();
    assert!(!paths.is_empty());
    paths
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(paths::root()).unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            (relative, text)
        })
        .collect()
}

fn none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

/// The layer of a module, counted from the top.
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The modules of the crate that a source names: `crate::name`, also inside `crate::{a, b::c}`.
fn used(text: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for after in text.split("crate::").skip(1) {
        if let Some(group) = after.strip_prefix('{') {
            modules.extend(first_names(group));
        } else {
            modules.push(identifier(after));
        }
    }
    modules
}

/// The first identifier of each entry of a group, up to the brace that closes it.
fn first_names(group: &str) -> Vec<String> {
    let (mut depth, mut at_start, mut names) = (0, true, Vec::new());
    for (index, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            other if at_start && !other.is_whitespace() => {
                names.push(identifier(&group[index..]));
                at_start = false;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|&c| c.is_ascii_alphanumeric() || c == '_').collect()
}

#[test]
fn the_scanner_sees_plain_and_grouped_uses() {
    let text =
        "use crate::name::Key;\nuse crate::{error::{A, B}, store,\n vfs::X};\nlet x = crate::read::plan();";
    assert_eq!(used(text), ["name", "error", "store", "vfs", "read"]);
}

#[test]
fn modules_of_fs_use_only_what_stands_below_them() {
    let mut wrong = Vec::new();
    for (path, text) in texts(&["rs"]) {
        let Some(inside) = path.strip_prefix("fs/src/") else { continue };
        let module = inside.split(['/', '.']).next().unwrap();
        if module == "lib" {
            continue;
        }
        let Some(own) = layer(module) else {
            wrong.push(format!("{path}: the module {module} is in no layer; name it in tests/tidy.rs"));
            continue;
        };
        for name in used(&text) {
            // What is no module is an item that lib.rs exports, of which there are none that hide a layer.
            if let Some(other) = layer(&name)
                && other < own
                && !(module == "error" && ERROR_SOURCES.contains(&&*name))
            {
                wrong.push(format!("{path} uses {name}, which stands above it"));
            }
        }
    }
    none("wrong way through the layers", &wrong);
}

#[test]
fn only_the_adapter_knows_the_kernel_and_only_the_store_knows_the_sdk() {
    let mut wrong = Vec::new();
    for (path, text) in texts(&["rs"]) {
        let Some(inside) = path.strip_prefix("fs/src/") else { continue };
        let module = inside.split(['/', '.']).next().unwrap();
        if text.contains("fuser::") && !matches!(module, "fuse" | "mount") {
            wrong.push(format!("{path} uses fuser"));
        }
        if text.contains("aws_sdk_s3")
            && !matches!(module, "store" | "doctor" | "demo" | "embedded" | "mount")
        {
            wrong.push(format!("{path} uses the S3 client"));
        }
    }
    none("in the wrong place", &wrong);
}

#[test]
fn crates_depend_in_one_direction() {
    let allowed = BTreeMap::from([
        ("cache/", &["tarn_cache"][..]),
        ("csi/", &["tarn_csi", "tarn_fs"][..]),
        ("cache/volume/", &["tarn_volume"]),
        ("fs/", &["tarn_cache"][..]),
        ("tests/", &["tarn_cache", "tarn_csi", "tarn_fs", "tarn_tests"][..]),
        ("perf/", &["tarn_fs", "tarn_cache", "tarn_tests", "tarn_perf"][..]),
    ]);
    let mut wrong = Vec::new();
    for (path, text) in texts(&["rs"]) {
        // The innermost folder decides.
        let found = allowed.iter().rev().find(|(dir, _)| path.starts_with(**dir));
        let Some((_, allowed)) = found else { continue };
        for line in text.lines().filter(|line| line.trim_start().starts_with("use tarn_")) {
            let name = identifier(line.trim_start().trim_start_matches("use "));
            // The binary uses its own library.
            let own = name == "tarn_fs" && path.starts_with("fs/");
            if !own && !allowed.contains(&&*name) {
                wrong.push(format!("{path} uses {name}"));
            }
        }
    }
    none("wrong dependency", &wrong);
}

#[test]
fn files_are_short_enough_to_read() {
    let long = texts(&["rs", "py", "sh"]).into_iter().filter_map(|(path, text)| {
        let lines = text.lines().count();
        (lines > LONGEST).then(|| format!("{path}: {lines} lines"))
    });
    none("too long", &long.collect::<Vec<_>>());
}

#[test]
fn every_module_says_what_it_is_for() {
    // A file of unit tests belongs to the module that it tests.
    let silent = texts(&["rs"]).into_iter().filter(|(path, text)| {
        !path.ends_with("/tests.rs") && !text.lines().take(4).any(|line| line.starts_with("//! "))
    });
    none("no module comment", &silent.map(|(path, _)| path).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_lying_about() {
    // In pieces, so that this file does not find itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X "),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[ig", "nore"),
        concat!("thread::", "sleep("),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
    ];
    let mut wrong = Vec::new();
    for (path, text) in texts(&["rs", "py", "sh", "toml", "md", "fio"]) {
        // The lists of clippy name what they forbid.
        if path == "clippy.toml" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            wrong.extend(
                words
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("{path}:{}: {word}", number + 1)),
            );
        }
    }
    none("left lying about", &wrong);
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    let mut wrong = Vec::new();
    for (path, text) in texts(&["rs"]) {
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or(line);
            if code.contains(concat!("uns", "afe {")) {
                let before = &lines[index.saturating_sub(6)..index];
                if !before.iter().any(|line| line.contains("SAFETY:")) {
                    wrong.push(format!("{path}:{}", index + 1));
                }
            }
        }
    }
    none("no SAFETY comment", &wrong);
}

#[test]
fn every_known_case_has_tests_that_exist() {
    const CASES: usize = 42;
    let code: String = texts(&["rs"]).into_iter().map(|(_, text)| text).collect();
    let list = fs::read_to_string(paths::root().join("tests/faults/CASES.md")).unwrap();
    let rows: Vec<&str> =
        list.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| # |")).collect();
    let numbers: Vec<String> =
        rows.iter().map(|row| row.split('|').nth(1).unwrap().trim().to_owned()).collect();
    assert_eq!(numbers, (1..=CASES).map(|number| number.to_string()).collect::<Vec<_>>());
    let missing = rows.iter().flat_map(|row| {
        let tests: Vec<&str> = row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row}");
        tests.into_iter().filter(|test| !code.contains(&format!("fn {test}("))).map(str::to_owned)
    });
    none("tests that are not there", &missing.collect::<Vec<_>>());
}

/// Sentences of SEMANTICS.md that no test here can prove, each with the reason.
const UNPROVEN: &[(&str, &str)] = &[];

#[test]
fn every_sentence_of_semantics_is_quoted_by_a_test() {
    let text = fs::read_to_string(paths::root().join("SEMANTICS.md")).unwrap();
    let sentences = semantics::sentences(&text);
    let (mut found, mut wrong) = (BTreeSet::new(), Vec::new());
    for (path, text) in texts(&["rs"]) {
        for semantics::Quote { sentence, test } in semantics::quotes(&text) {
            if !sentences.contains(&sentence) {
                wrong.push(format!("{path} quotes what SEMANTICS.md does not say: {sentence}"));
            } else if test.is_none() {
                wrong.push(format!("{path} quotes it where no test is: {sentence}"));
            }
            found.insert(sentence);
        }
    }
    for (sentence, reason) in UNPROVEN {
        assert!(
            !reason.is_empty() && sentences.iter().any(|known| known == sentence),
            "not there: {sentence}"
        );
        assert!(found.insert((*sentence).to_owned()), "a test proves it: {sentence}");
    }
    let unproven = sentences.iter().filter(|sentence| !found.contains(*sentence));
    wrong.extend(unproven.map(|sentence| format!("no test quotes: {sentence}")));
    none("SEMANTICS.md and its tests", &wrong);
}
