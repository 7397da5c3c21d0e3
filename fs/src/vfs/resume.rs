//! Renames and exchanges that a process which is gone had under way are finished: before anybody is served, or, where
//! programs wait for the next worker, behind it. Only who asks for what is being renamed waits then.
//!
//! Invariant: they are finished in the order they were begun in: a name that one leaves may be where the next goes.

use super::Vfs;
use super::backlog::pause;
use super::namespace::{Held, Use};
use super::recover::Missing;
use crate::clock;
use crate::error::Result;
use crate::journal::{Base, Entry, Exchange, Move, Record};
use crate::store::ErrorKind;
use std::sync::{Arc, Weak};
use tarn_cache::OrphanStaged;

/// How often it is tried to finish them while the store is away: for some five minutes.
const TRIES: u32 = 12;

/// What was under way, with the journal's records of it.
#[derive(Default)]
pub(super) struct Unfinished {
    pub(super) moves: Vec<(OrphanStaged, Move)>,
    pub(super) exchanges: Vec<(OrphanStaged, Exchange)>,
}

impl Unfinished {
    fn len(&self) -> usize {
        self.moves.len() + self.exchanges.len()
    }

    /// The names between which there are renames. The moves of an exchange are between its own.
    fn ends(&self) -> impl Iterator<Item = (&str, &str)> {
        let exchanges = self.exchanges.iter().map(|(_, of)| (&*of.first, &*of.second));
        let is_part = |of: &Move| self.exchanges.iter().any(|(_, exchange)| is_step(of, exchange));
        let moves = self.moves.iter().filter(move |(_, of)| !is_part(of));
        exchanges.chain(moves.map(|(_, of)| (&*of.from, &*of.to)))
    }
}

fn is_step(of: &Move, exchange: &Exchange) -> bool {
    let names = [&exchange.first, &exchange.second, &exchange.aside].map(|path| path.trim_end_matches('/'));
    [&of.from, &of.to].iter().all(|end| names.contains(&end.trim_end_matches('/')))
}

impl Vfs {
    /// Finishes them, now or behind. Says how many are finished.
    pub(super) async fn finish(
        self: &Arc<Self>,
        mut unfinished: Unfinished,
        files: &mut [(OrphanStaged, Record)],
    ) -> Result<usize> {
        unfinished.moves.sort_by_key(|(_, of)| of.written);
        if unfinished.len() > 0
            && let Some(held) = self.hold_all(&unfinished)?
        {
            self.runtime.spawn(finish_behind(Arc::downgrade(self), unfinished, held));
            return Ok(0);
        }
        let all = unfinished.len();
        if let Err(error) = self.finish_all(&mut unfinished, files).await {
            tracing::error!(%error, "a rename stays half done until the next mount");
        }
        Ok(all - unfinished.len())
    }

    /// Keeps everybody else from all that is being renamed. `None` if that cannot be told, or nobody waits.
    fn hold_all(&self, unfinished: &Unfinished) -> Result<Option<Vec<Held>>> {
        if self.earlier.get().is_none() {
            return Ok(None);
        }
        unfinished.ends().map(|(first, second)| self.hold_between(first, second)).collect()
    }

    fn hold_between(&self, first: &str, second: &str) -> Result<Option<Held>> {
        let places = (self.place_at(first, Missing::End)?, self.place_at(second, Missing::End)?);
        let (Some(first), Some(second)) = places else { return Ok(None) };
        let known = [&first, &second].map(|place| self.table.child(place.parent, &place.name));
        let roots: Vec<_> = known.iter().flatten().map(|inode| inode.ino).collect();
        if roots.is_empty() {
            return Ok(None);
        }
        Ok(self.try_hold(&[Use::from(&first), Use::from(&second)], &roots))
    }

    /// Those that fail stay, each for itself; the last error tells why.
    async fn finish_all(
        &self,
        unfinished: &mut Unfinished,
        files: &mut [(OrphanStaged, Record)],
    ) -> Result<()> {
        let mut end = Ok(());
        for (orphan, of) in std::mem::take(&mut unfinished.moves) {
            let (from, to) = (&of.from, &of.to);
            tracing::info!(from, to, "finishing a rename that was interrupted");
            match self.resume_with_files(&of, orphan.is_of_this_boot(), files).await {
                Ok(stay) => {
                    if stay > 0 {
                        tracing::warn!(from, to, stay, "objects stay: their new names are taken");
                    }
                    orphan.adopt()?.discard();
                }
                Err(error) => {
                    tracing::warn!(from, to, %error, "a rename is half done");
                    unfinished.moves.push((orphan, of));
                    end = Err(error);
                }
            }
        }
        // An exchange goes on from where its moves have ended.
        end?;
        let mut end = Ok(());
        for (orphan, of) in std::mem::take(&mut unfinished.exchanges) {
            let (first, second, aside) = (&of.first, &of.second, &of.aside);
            tracing::info!(first, second, "finishing an exchange that was interrupted");
            match self.resume_exchange(&of, files).await {
                Ok(()) => orphan.adopt()?.discard(),
                Err(error) => {
                    tracing::warn!(first, second, aside, %error, "an exchange is half done");
                    unfinished.exchanges.push((orphan, of));
                    end = Err(error);
                }
            }
        }
        end
    }

    /// What a try has left half done of an exchange has a record of its own, and comes first in the next.
    fn add_steps(&self, unfinished: &mut Unfinished) -> Result<()> {
        for orphan in self.cache.orphans_where(|label| self.is_lost(label))? {
            let Some(Entry::Move(of)) = orphan.label().and_then(Entry::read) else { continue };
            if unfinished.exchanges.iter().any(|(_, exchange)| is_step(&of, exchange)) {
                unfinished.moves.push((orphan, of));
            }
        }
        Ok(())
    }

    /// Says how many objects stay. A staged file that was written down after the move began has its name since, and not
    /// from before.
    pub(super) async fn resume_with_files(
        &self,
        of: &Move,
        of_this_boot: bool,
        files: &mut [(OrphanStaged, Record)],
    ) -> Result<usize> {
        let stay = self.resume_move(of).await?;
        if stay == 0 {
            self.follow_move(of).await?;
        }
        for (orphan, record) in
            files.iter_mut().filter(|(_, record)| of_this_boot || record.written < of.written)
        {
            self.move_record(of, orphan, record).await?;
        }
        Ok(stay)
    }

    /// A staged file below a directory that was moved goes with it, and rests on the copy of its base.
    async fn move_record(&self, of: &Move, orphan: &OrphanStaged, record: &mut Record) -> Result<()> {
        let Some(key) = of.moved(&record.key) else { return Ok(()) };
        if let Some(base) = &mut record.base
            && let Some(copy) = self.head_if_any(&key).await?
            && copy.version.size == base.size
        {
            *base = Base::from(&copy.version);
        }
        record.key = key;
        orphan.relabel(&self.label(record))?;
        Ok(())
    }
}

/// Tries until they are finished, the mount is gone or the store is away for too long. The names are held all the while:
/// who looked at them would see them half done.
async fn finish_behind(vfs: Weak<Vfs>, mut unfinished: Unfinished, _held: Vec<Held>) {
    for failures in 1..=TRIES {
        let Some(vfs) = vfs.upgrade() else { return };
        let Err(error) = vfs.finish_all(&mut unfinished, &mut []).await else { return };
        let may_pass = failures < TRIES && error.store_kind().is_some_and(ErrorKind::may_pass);
        let again = if may_pass { vfs.add_steps(&mut unfinished) } else { Err(error) };
        if let Err(error) = again {
            tracing::error!(%error, "a rename stays half done until the next mount");
            return;
        }
        drop(vfs);
        clock::sleep(pause(failures)).await;
    }
}
