//! One call at a time for each volume. A second one is told to come again (`ABORTED`), as the specification says.

use crate::error::{Error, Kind, Result};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;

/// The volumes that a call is working on. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct InFlight(Arc<Mutex<HashSet<String>>>);

/// A call's hold on a volume; dropping it ends it.
#[derive(Debug)]
pub struct Hold {
    all: InFlight,
    name: String,
}

impl InFlight {
    /// Takes hold of a volume by id, name or path.
    pub fn enter(&self, name: &str) -> Result<Hold> {
        if !self.0.lock().insert(name.to_owned()) {
            return Err(Error::new(Kind::Busy, format!("another call for {name} is under way; try again")));
        }
        Ok(Hold { all: self.clone(), name: name.to_owned() })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_call_waits_for_the_end_of_the_first() {
        let all = InFlight::default();
        let first = all.enter("v").expect("free");
        assert_eq!(all.enter("v").expect_err("held").kind, Kind::Busy);
        let _other = all.enter("w").expect("another volume");
        drop(first);
        all.enter("v").expect("free again");
    }
}
