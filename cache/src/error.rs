//! Errors.
/// x
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct Error;
impl Error {
    /// errno
    pub fn raw_os_error(&self) -> Option<i32> {
        None
    }
}
