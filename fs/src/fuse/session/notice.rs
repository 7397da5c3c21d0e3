//! Notices to the kernel: `fuse_out_header` without a number and with the code in the place of the error
//! (`include/uapi/linux/fuse.h`), and what follows it.

const HEADER: usize = 16;
const INVAL_INODE: u32 = 2;
const RESEND: u32 = 7;
const INC_EPOCH: u32 = 8;

/// Asks for what was read and not answered once more (since Linux 6.9).
pub(super) fn resend() -> Vec<u8> {
    notice(RESEND, &[])
}

/// Lets the kernel forget the attributes of an inode, not its pages: the range begins before the file.
pub(super) fn attributes_moved(ino: u64) -> Vec<u8> {
    notice(INVAL_INODE, &[ino, u64::MAX, 0])
}

/// Lets the kernel look up every name anew when it is used next, also names that it knows to be free (since Linux 6.16).
/// It waits for no lock, unlike a notice about one name.
pub(super) fn names_changed() -> Vec<u8> {
    notice(INC_EPOCH, &[])
}

fn notice(code: u32, body: &[u64]) -> Vec<u8> {
    let length = HEADER + size_of_val(body);
    let mut notice = Vec::with_capacity(length);
    notice.extend(u32::try_from(length).expect("some bytes").to_ne_bytes());
    notice.extend(code.to_ne_bytes());
    notice.extend(0_u64.to_ne_bytes());
    body.iter().for_each(|word| notice.extend(word.to_ne_bytes()));
    notice
}
