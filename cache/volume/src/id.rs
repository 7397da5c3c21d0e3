//! Names of things in the cloud, each a type of its own.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A name that EC2 gave to something, which it is not for us to take apart.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the name as it is.
            pub fn new(name: impl Into<String>) -> Self {
                Self(name.into())
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// An instance, as `i-0123456789abcdef0`.
    InstanceId
}
name! {
    /// An availability zone, as `eu-central-1a`.
    Zone
}
name! {
    /// A node, by the name that its owner gave it. A replaced node may have the same name or another.
    NodeName
}
name! {
    /// The installation that volumes belong to; two in one account never touch each other's.
    Owner
}
name! {
    /// What AttachVolume calls a device, as `/dev/xvdba`. On Nitro instances it says nothing about the path.
    DeviceName
}

/// A volume, as `vol-0123456789abcdef0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId(String);

/// A text that is no volume's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no volume id: vol- and hexadecimal digits")]
pub struct NoVolumeId(String);

impl VolumeId {
    /// Accepts `vol-` and hexadecimal digits, and nothing that could leave a directory or a command line.
    pub fn parse(text: &str) -> Result<Self, NoVolumeId> {
        let digits = text.strip_prefix("vol-").unwrap_or_default();
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if !(8..=17).contains(&digits.len()) || !digits.bytes().all(hexadecimal) {
            return Err(NoVolumeId(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The serial number that the volume's NVMe controller reports: the id without its dash.
    pub fn serial(&self) -> String {
        self.0.replacen('-', "", 1)
    }

    /// The reverse of [`VolumeId::serial`]; `None` for the serial of something that is no EBS volume.
    pub fn from_serial(serial: &str) -> Option<Self> {
        let digits = serial.trim().strip_prefix("vol")?.trim_start_matches('-');
        Self::parse(&format!("vol-{digits}")).ok()
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for VolumeId {
    type Error = NoVolumeId;

    fn try_from(text: String) -> Result<Self, NoVolumeId> {
        Self::parse(&text)
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_id_is_told_from_everything_else() {
        for good in ["vol-0123456789abcdef0", "vol-01234567"] {
            assert_eq!(VolumeId::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", "vol-", "vol-../../etc", "vol-0123456G", "i-0123456789abcdef0", "vol-0123456789abcdef01"]
        {
            assert!(VolumeId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_serial_and_an_id_are_two_spellings() {
        let id = VolumeId::parse("vol-0123456789abcdef0").unwrap();
        assert_eq!(id.serial(), "vol0123456789abcdef0");
        assert_eq!(VolumeId::from_serial("vol0123456789abcdef0 \n"), Some(id.clone()));
        assert_eq!(VolumeId::from_serial("vol-0123456789abcdef0"), Some(id));
        assert_eq!(VolumeId::from_serial("AWS1234567890ABCDEF0"), None);
    }
}
