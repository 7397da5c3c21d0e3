//! The page of results, which several programs write: each its own part of it. A section begins with `## `; what
//! stands before the first one is the lead. Pure but for [`change`].

use anyhow::{Context, Result};
use std::io::ErrorKind;
use std::path::Path;

/// Rewrites the page; one that is not there is empty.
pub fn change(path: &Path, new: impl FnOnce(&str) -> Result<String>) -> Result<()> {
    let old = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        other => other.with_context(|| format!("read {}", path.display()))?,
    };
    std::fs::write(path, new(&old)?).with_context(|| format!("write {}", path.display()))
}

/// The page with another lead.
pub fn with_lead(page: &str, lead: &str) -> String {
    let (_, sections) = page.split_at(begin_of_section(page));
    join(&[lead, sections])
}

/// The page with this section in place of the one of the same heading, or at its end. `section` begins with its
/// heading.
pub fn with_section(page: &str, section: &str) -> String {
    let heading = section.lines().next().unwrap_or_default();
    let Some(start) = line_starts(page).find(|&start| page[start..].lines().next() == Some(heading)) else {
        return join(&[page, section]);
    };
    let after = start + heading.len();
    let end = after + begin_of_section(&page[after..]);
    join(&[&page[..start], section, &page[end..]])
}

/// Where the first section begins, or the end.
fn begin_of_section(text: &str) -> usize {
    line_starts(text).find(|&start| text[start..].starts_with("## ")).unwrap_or(text.len())
}

fn line_starts(text: &str) -> impl Iterator<Item = usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(index, _)| index + 1))
}

/// The parts with an empty line between them.
fn join(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
    parts.join("\n\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Results\n\nLead.\n\n## A\n\n### Part\n\none\n\n## B\n\ntwo\n";

    #[test]
    fn a_new_lead_leaves_the_sections() {
        assert_eq!(with_lead(PAGE, "# New\n"), "# New\n\n## A\n\n### Part\n\none\n\n## B\n\ntwo\n");
        assert_eq!(with_lead("", "# New\n"), "# New\n");
        assert_eq!(with_lead("# Results\n", "# New\n"), "# New\n");
    }

    #[test]
    fn a_section_is_replaced_in_its_place() {
        assert_eq!(with_section(PAGE, "## A\n\nnew\n"), "# Results\n\nLead.\n\n## A\n\nnew\n\n## B\n\ntwo\n");
        assert_eq!(
            with_section(PAGE, "## B\n\nnew"),
            "# Results\n\nLead.\n\n## A\n\n### Part\n\none\n\n## B\n\nnew\n"
        );
    }

    #[test]
    fn a_section_that_was_not_there_comes_last() {
        assert_eq!(with_section("# Results\n", "## C\n\nnew\n"), "# Results\n\n## C\n\nnew\n");
        assert_eq!(with_section("# Results\n\n## CC\n", "## C\n"), "# Results\n\n## CC\n\n## C\n");
    }
}
