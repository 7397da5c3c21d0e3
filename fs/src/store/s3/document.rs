//! Answers that are documents. The SDK takes from one what it can read and says nothing of the rest: a listing that was
//! cut off would be a directory with fewer files, and an error in a place where none is expected would be a success.
//!
//! So every document that it took is read once more: it must be whole, and no error.

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use quick_xml::Reader;
use quick_xml::events::Event;

/// Refuses answers with a document that is not whole.
#[derive(Debug)]
pub(super) struct WholeDocuments;

impl Intercept for WholeDocuments {
    fn name(&self) -> &'static str {
        "WholeDocuments"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.output_or_error().is_err() {
            return Ok(());
        }
        // What is streamed is an object and no document.
        match context.response().body().bytes() {
            Some(body) if body.trim_ascii_start().starts_with(b"<") => Ok(check(body)?),
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether all elements of a document end, and the first one is no error.
fn check(document: &[u8]) -> Result<(), String> {
    let mut reader = Reader::from_reader(document);
    let (mut depth, mut elements) = (0_usize, 0_usize);
    loop {
        let event = reader.read_event().map_err(|error| format!("a damaged document: {error}"))?;
        match event {
            Event::Start(start) | Event::Empty(start)
                if elements == 0 && start.name().as_ref() == b"Error" =>
            {
                return Err("an error where the answer should be".to_owned());
            }
            Event::Start(_) => (depth, elements) = (depth + 1, elements + 1),
            Event::Empty(_) => elements += 1,
            // The reader compares the name with that of the beginning.
            Event::End(_) => depth -= 1,
            Event::Eof if depth == 0 && elements > 0 => return Ok(()),
            Event::Eof => return Err("the document ends too early".to_owned()),
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3\"><IsTruncated>false</IsTruncated>\
        <Contents><Key>a&amp;b</Key><ETag>&quot;e&quot;</ETag></Contents><Prefix/></ListBucketResult>\n";

    #[test]
    fn a_document_is_whole_or_refused() {
        check(LISTING.as_bytes()).expect("whole");
        for at in 0..LISTING.len() - 1 {
            check(&LISTING.as_bytes()[..at]).expect_err("cut");
        }
        for bad in [
            "",
            "plain",
            "<a></b>",
            "<a><b></a></b>",
            "<a></a></a>",
            "<a",
            "<Error/>",
            "<Error><Code/></Error>",
        ] {
            check(bad.as_bytes()).expect_err(bad);
        }
        check(b"<a><Error/></a>").expect("errors of single keys are in the answer to a batch");
    }
}
