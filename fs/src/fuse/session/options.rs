//! The text of mount options. Only what cannot end an option or start another gets in.

use super::MountRequest;
use std::fmt;

/// Text that stands in a mount option or in the list of mounts.
///
/// Invariant: no comma, backslash, quote or control character, so it is one option for the kernel and for
/// fusermount3 alike. Such characters are written as `%XX`, as in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionText(String);

impl OptionText {
    /// Takes any text and escapes what would not stay inside one option.
    pub fn escape(text: &str) -> Self {
        let mut escaped = String::with_capacity(text.len());
        for c in text.chars() {
            if matches!(c, ',' | '\\' | '"' | '\'') || c.is_control() {
                let mut buffer = [0; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    escaped.push_str(&format!("%{byte:02X}"));
                }
            } else {
                escaped.push(c);
            }
        }
        Self(escaped)
    }

    /// The escaped text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OptionText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The data argument of mount(2) for root.
pub(super) fn kernel(request: &MountRequest, fd: i32, uid: u32, gid: u32) -> String {
    let mut data = format!("fd={fd},rootmode=40000,user_id={uid},group_id={gid},default_permissions");
    if request.allow_other {
        data.push_str(",allow_other");
    }
    data
}

/// The `-o` argument of fusermount3, which adds the descriptor and the ids itself.
pub(super) fn helper(request: &MountRequest) -> String {
    let mut list = format!("fsname={},subtype=tarn,default_permissions,nosuid,nodev", request.source);
    for (wanted, word) in
        [(request.allow_other, "allow_other"), (request.read_only, "ro"), (request.no_exec, "noexec")]
    {
        if wanted {
            list.push(',');
            list.push_str(word);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(source: &str) -> MountRequest {
        MountRequest {
            dir: "/mnt".into(),
            source: OptionText::escape(source),
            allow_other: true,
            read_only: true,
            no_exec: false,
        }
    }

    #[test]
    fn options_are_what_the_kernel_reads() {
        assert_eq!(
            kernel(&request("s3://b"), 7, 0, 0),
            "fd=7,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
        );
        assert_eq!(
            helper(&request("s3://b")),
            "fsname=s3://b,subtype=tarn,default_permissions,nosuid,nodev,allow_other,ro"
        );
    }

    proptest! {
        #[test]
        fn no_source_adds_an_option(source in "(?s).{0,60}") {
            let plain = helper(&request("s3://b"));
            let list = helper(&request(&source));
            prop_assert_eq!(list.split(',').count(), plain.split(',').count());
            prop_assert!(!list.contains(['\n', '\\', '\0']));
        }
    }
}
