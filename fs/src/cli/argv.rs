//! The forms in which mount(8) calls a helper, brought into `tarn mount SOURCE DIR`. Pure.
//!
//! - `/sbin/mount.tarn SOURCE DIR [-sfnv] [-N ns] [-o opts] [-t type]`, also as `mount.fuse.tarn` (mount(8), "external
//!   helpers");
//! - `tarn SOURCE DIR [-o opts]`, as `/sbin/mount.fuse -t fuse.tarn` runs it through the shell.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Brings `argv` into the form that clap knows. The error is a sentence for the user.
pub fn normalize(argv: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let mut arguments = argv.into_iter();
    let program = arguments.next().unwrap_or_else(|| "tarn".into());
    let rest: Vec<OsString> = arguments.collect();
    let name = Path::new(&program).file_name().unwrap_or_default();
    let is_helper = ["mount.tarn", "mount.fuse.tarn"].iter().any(|helper| name == *helper);
    let is_source =
        rest.first().and_then(|first| first.to_str()).is_some_and(|first| first.starts_with("s3://"));
    let mut normal = vec![OsString::from("tarn")];
    if is_helper {
        normal.push("mount".into());
        normal.extend(helper(rest)?);
    } else {
        if is_source {
            normal.push("mount".into());
        }
        normal.extend(rest);
    }
    Ok(normal)
}

fn helper(rest: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let mut normal = Vec::with_capacity(rest.len());
    let mut rest = rest.into_iter();
    while let Some(argument) = rest.next() {
        let Some(letters) = short_options(&argument) else {
            normal.push(argument);
            continue;
        };
        for (at, letter) in letters.char_indices() {
            let attached = &letters[at + letter.len_utf8()..];
            let mut value = || match attached {
                "" => rest.next().ok_or_else(|| format!("-{letter} needs a value")),
                attached => Ok(attached.into()),
            };
            match letter {
                's' => normal.push("--sloppy".into()),
                'f' => normal.push("--fake".into()),
                // No mtab is written, and the log says what there is to say.
                'n' | 'v' => continue,
                'o' => {
                    let options = value()?;
                    normal.extend(["-o".into(), options]);
                    break;
                }
                't' => {
                    check_type(&value()?)?;
                    break;
                }
                'N' => return Err("-N: mount into another namespace with nsenter".to_owned()),
                other => return Err(format!("-{other}: unknown option of a mount helper")),
            }
        }
    }
    Ok(normal)
}

/// The letters of `-sfnv`; long options go to clap as they are.
fn short_options(argument: &OsStr) -> Option<String> {
    let letters = argument.to_str()?.strip_prefix('-')?;
    (!letters.is_empty() && !letters.starts_with('-')).then(|| letters.to_owned())
}

fn check_type(fs_type: &OsStr) -> Result<(), String> {
    if ["tarn", "fuse.tarn", "fuse"].iter().any(|known| fs_type == *known) {
        return Ok(());
    }
    Err(format!("-t {}: this helper mounts tarn and fuse.tarn", fs_type.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(line: &str) -> Result<String, String> {
        let argv = line.split(' ').map(OsString::from).collect();
        let join = |argv: Vec<OsString>| argv.join(OsStr::new(" ")).into_string().expect("text");
        normalize(argv).map(join)
    }

    #[test]
    fn every_form_of_a_helper() {
        for (line, expected) in [
            ("/sbin/mount.tarn s3://b /m -o rw,uid=1", "tarn mount s3://b /m -o rw,uid=1"),
            ("mount.fuse.tarn s3://b /m -sfnv -o ro", "tarn mount s3://b /m --sloppy --fake -o ro"),
            ("/sbin/mount.tarn s3://b /m -n -t fuse.tarn -o ro", "tarn mount s3://b /m -o ro"),
            ("/sbin/mount.tarn -oro s3://b /m", "tarn mount -o ro s3://b /m"),
            ("tarn s3://b /m -o rw,dev,suid", "tarn mount s3://b /m -o rw,dev,suid"),
            ("/usr/bin/tarn mount s3://b /m", "tarn mount s3://b /m"),
            ("tarn umount /m", "tarn umount /m"),
        ] {
            assert_eq!(normal(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_a_helper_cannot_do_is_said() {
        for line in [
            "mount.tarn s3://b /m -t ext4",
            "mount.tarn s3://b /m -N 1",
            "mount.tarn s3://b /m -z",
            "mount.tarn s3://b /m -o",
        ] {
            assert!(normal(line).is_err(), "{line}");
        }
    }
}
