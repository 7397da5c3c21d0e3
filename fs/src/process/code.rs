//! Code that only the start of a process has used. A node has hundreds of mounts that do little: what each of them has
//! mapped of the program counts as its memory.

#![expect(unsafe_code, reason = "pages are given back by their addresses")]

use rustix::mm::{Advice, madvise};
use std::ops::Range;

/// Takes the program's code out of this process's memory. What is used again comes back from the page cache.
pub fn release() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for pages in maps.lines().filter_map(code) {
        let start = std::ptr::without_provenance_mut(pages.start);
        // SAFETY: nobody writes to these pages of a file, so reading them again gives the same bytes.
        if let Err(error) = unsafe { madvise(start, pages.len(), Advice::LinuxDontNeed) } {
            tracing::debug!(%error, "code that is not needed stays in memory");
        }
    }
}

/// The addresses of a line of `/proc/pid/maps` (proc_pid_maps(5)) that says where a file's code is.
fn code(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (addresses, access, file) = (fields.next()?, fields.next()?, fields.nth(3)?);
    let (start, end) = addresses.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    (access == "r-xp" && file.starts_with('/')).then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_a_file_has_to_run() {
        let line = |access, file| format!("5581a000-5581c000 {access} 00001000 fe:00 1234   {file}");
        let expected = Some(0x5581_a000..0x5581_c000);
        assert_eq!(code(&line("r-xp", "/usr/bin/tarn")), expected);
        assert_eq!(code(&line("r-xp", "/usr/bin/tarn (deleted)")), expected);
        for (access, file) in
            [("r--p", "/usr/bin/tarn"), ("rw-p", "/usr/bin/tarn"), ("r-xp", "[vdso]"), ("r-xp", "")]
        {
            assert_eq!(code(&line(access, file)), None, "{access} {file}");
        }
    }
}
