//! A look at what lies on disk: names and sizes of all objects, without opening one.

use super::{Store, Unseen, shelf};
use crate::error::Result;
use crate::key::ObjectName;
use std::collections::HashMap;

impl Store {
    /// Looks once at what the store held when it was opened: puts it into the order of eviction, before everything that
    /// was used since, and counts it anew if nobody else had the store open then. Takes some seconds for a million
    /// objects; who needs room before it was done has to wait for it.
    pub fn survey(&self) -> Result<()> {
        let mut unseen = self.unseen.lock();
        let Some(Unseen { alone }) = *unseen else { return Ok(()) };
        let before = self.budget.used();
        let found = self.scan()?;
        if alone {
            self.budget.correct_used(before, found.iter().map(|(_, bytes)| bytes).sum());
            self.count_holds()?;
        }
        self.budget.learn(&found, self.holds()?);
        *unseen = None;
        Ok(())
    }

    /// All clean objects with their bytes on disk, the longest unused first (by the time a block was last
    /// filled). Removes data files that have no map.
    pub(crate) fn scan(&self) -> Result<Vec<(ObjectName, u64)>> {
        let mut found = Vec::new();
        for shard in self.dirs.objects.names()? {
            if u8::from_str_radix(&shard, 16).is_ok() {
                self.scan_shard(&shard, &mut found)?;
            }
        }
        found.sort_unstable_by_key(|&(_, _, modified)| modified);
        Ok(found.into_iter().map(|(name, bytes, _)| (name, bytes)).collect())
    }

    fn scan_shard(&self, shard: &str, found: &mut Vec<(ObjectName, u64, i64)>) -> Result<()> {
        #[derive(Default)]
        struct Files {
            map: bool,
            bytes: u64,
            modified: i64,
        }
        let dir = self.dirs.objects.subdir(shard)?;
        let mut objects: HashMap<ObjectName, Files> = HashMap::new();
        for file in dir.names()? {
            let Some((stem, kind)) = file.split_once('.') else { continue };
            let Some(name) = ObjectName::parse(stem) else { continue };
            let Some(stat) = dir.stat(&file)? else { continue };
            let files = objects.entry(name).or_default();
            files.map |= file == shelf::map_name(name);
            files.bytes += stat.allocated;
            if kind == "data" {
                files.modified = stat.modified;
            }
        }
        for (name, files) in objects {
            if files.map {
                found.push((name, files.bytes, files.modified));
            } else {
                // Looks again under the lock: it may be about to get its map.
                self.shard(name)?.remove_without_map(name)?;
            }
        }
        Ok(())
    }
}
