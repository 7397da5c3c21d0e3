//! SEMANTICS.md as a list of sentences, and the quotes of it in the doc comments of tests.
//!
//! A sentence ends at a full stop before a space, or with its paragraph or list item; each row of a table is one. Those
//! that claim nothing are none: headings, heads of tables, bold lead words (`**Times.**`), and what ends in a colon and
//! only leads in to a list. White space, backticks and bold type do not count.

/// A sentence in the doc comment of a function: in quotation marks, behind the name of the document and a colon.
#[derive(Debug, PartialEq, Eq)]
pub struct Quote {
    /// The sentence.
    pub sentence: String,
    /// The function, if it is a test.
    pub test: Option<String>,
}

/// The sentences of a document.
pub fn sentences(markdown: &str) -> Vec<String> {
    blocks(markdown).iter().flat_map(|block| of_block(block)).collect()
}

/// Paragraphs, list items and rows of tables, each on one line.
fn blocks(markdown: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in markdown.lines().map(str::trim) {
        let is_text = !line.is_empty() && !line.starts_with('#');
        if line.starts_with("|---") {
            // What stands above it is the head of a table.
            blocks.pop();
        } else if let Some(block) = blocks.last_mut().filter(|_| goes_on && is_text && !begins(line)) {
            block.push(' ');
            block.push_str(line);
        } else if is_text {
            blocks.push(line.to_owned());
        }
        goes_on = is_text && !line.starts_with('|');
    }
    blocks
}

/// Whether a line is an item or a row of its own.
fn begins(line: &str) -> bool {
    line.starts_with("- ") || line.starts_with('|')
}

fn of_block(block: &str) -> Vec<String> {
    if let Some(row) = block.strip_prefix('|') {
        return vec![plain(row.trim_end_matches('|'))];
    }
    let text = block.strip_prefix("- ").unwrap_or(block);
    let sentences = without_lead(text).split_inclusive(". ").map(plain);
    sentences.filter(|sentence| !sentence.is_empty() && !sentence.ends_with(':')).collect()
}

/// The text behind bold words that end in a full stop.
fn without_lead(text: &str) -> &str {
    let lead = text.strip_prefix("**").and_then(|text| text.split_once("**"));
    lead.filter(|(words, _)| words.ends_with('.')).map_or(text, |(_, rest)| rest)
}

/// The text without what does not count.
fn plain(text: &str) -> String {
    let text = text.replace("**", "").replace('`', "");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The quotes in a Rust source.
pub fn quotes(rust: &str) -> Vec<Quote> {
    let (mut quotes, mut comment, mut is_test) = (Vec::new(), String::new(), false);
    for line in rust.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            comment.push_str(text);
        } else if line.starts_with("#[") {
            is_test |= line.contains("test");
        } else {
            let name = function(line).filter(|name| is_test || is_listed(rust, name));
            quotes.extend(quoted(&comment).map(|sentence| Quote { sentence, test: name.map(str::to_owned) }));
            comment.clear();
            is_test = false;
        }
    }
    quotes
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    before.chars().all(|c| c.is_ascii_lowercase() || " ()".contains(c)).then_some(())?;
    after.split(['(', '<']).next()
}

/// Whether a suite of the source names the function.
fn is_listed(rust: &str, name: &str) -> bool {
    let suites = ["behaviours!(", "cases!["].into_iter().flat_map(|suite| rust.split(suite).skip(1));
    let mut lists = suites.filter_map(|text| text.split([')', ']']).next());
    lists.any(|list| list.split(',').any(|listed| listed.trim() == name))
}

/// The quoted sentences of a doc comment.
fn quoted(comment: &str) -> impl Iterator<Item = String> {
    let parts = comment.split("SEMANTICS:").skip(1);
    parts.map(|part| plain(part.trim().trim_start_matches('"').split('"').next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_with_a_stop_a_paragraph_or_an_item() {
        let text = "# Title. Not one\n\n**Lead.** The first: it\ngoes on. **Names** of\n`security.` are kept.\n\
            It is:\n\n- one item;\n- another. And\n  its second\n";
        let expected = [
            "The first: it goes on.",
            "Names of security. are kept.",
            "one item;",
            "another.",
            "And its second",
        ];
        assert_eq!(sentences(text), expected);
    }

    #[test]
    fn each_row_of_a_table_is_a_sentence_and_its_head_is_none() {
        let text = "Before.\n\n| what | errno |\n|---|---|\n| a. `b` | EIO |\n| c | ENOSPC |\nAfter.\n";
        assert_eq!(sentences(text), ["Before.", "a. b | EIO", "c | ENOSPC", "After."]);
    }

    #[test]
    fn quotes_belong_to_the_test_below_them() {
        let word = concat!("/// SEMAN", "TICS:");
        let source = format!(
            "const ALL: &[Behaviour] = behaviours!(On::Tarn, listed, other);\n\
             /// Words.\n{word} \"One `a`\n/// and on.\" And\n{word} \"two.\"\n#[tokio::test]\nasync fn proved() {{}}\n\
             {word} \"three.\"\nfn listed(subject: &Subject<'_>) {{}}\n\
             {word} \"four.\"\nfn helper() {{}}\n{word} \"five.\"\nconst X: u8 = 1;\n"
        );
        let expected = [
            ("One a and on.", Some("proved")),
            ("two.", Some("proved")),
            ("three.", Some("listed")),
            ("four.", None),
            ("five.", None),
        ];
        let quote = |(sentence, test): (&str, Option<&str>)| Quote {
            sentence: sentence.to_owned(),
            test: test.map(str::to_owned),
        };
        assert_eq!(quotes(&source), expected.map(quote));
    }
}
