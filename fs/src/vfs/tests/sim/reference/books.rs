//! The book-keeping of the reference: what it must remember to judge what comes next.

use super::{
    Asked, Change, Content, Event, Gone, Image, Intent, Left, Means, Reference, State, Told, UNDER_WAY, Who,
    show,
};
use crate::clock::simulated;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

/// What an image was called, and whether it still was.
pub(crate) type Known = (usize, BTreeSet<String>, Gone);

impl Reference {
    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        self.trace.push(format!("{:>9.3} {}", simulated::elapsed().as_secs_f64() * 1000.0, line()));
    }

    fn note(&mut self, verdict: Result<(), String>) {
        if let Err(wrong) = verdict
            && !self.undecided
        {
            self.trace(|| format!("WRONG: {wrong}"));
            self.wrong.get_or_insert(wrong);
        }
    }

    /// A program of a node hears something.
    pub(crate) fn told(&mut self, told: &Told) {
        let verdict = self.judge(&Event::Told(told));
        self.note(verdict);
        if let Told::Kept { image, round, .. } = told {
            let image = &mut self.images[*image];
            image.promised = image.promised.max(Some(*round));
        }
    }

    /// The bucket has changed; the number of the key's new state.
    pub(crate) fn changed(&mut self, change: Change) -> usize {
        let verdict = self.judge(&Event::Changed(&change));
        let Change { who, key, before, after, means } = &change;
        let who = *who;
        if before != after {
            self.trace(|| format!("  = {key} is {} by {who:?} {means:?}", show(after)));
        }
        self.note(verdict);
        if let (Who::Node(node), Means::Put | Means::Upload(_)) = (who, &means) {
            self.stored(node, &change);
        }
        let Change { who, key, after, .. } = change;
        let now = simulated::elapsed();
        let states = self
            .history
            .entry(key)
            .or_insert_with(|| vec![State { from: Duration::ZERO, content: None, by: who }]);
        states.push(State { from: now, content: after, by: who });
        states.len() - 1
    }

    /// The bucket has an image of the node's now.
    fn stored(&mut self, node: usize, change: &Change) {
        let owners: Vec<usize> = self.owners(node, change).map(|(index, _)| index).collect();
        for image in owners {
            let image = &mut self.images[image];
            image.based.extend(change.after.clone());
            image.stored = true;
            if image.names.contains(&change.key) {
                image.since = simulated::elapsed();
            } else {
                image.conflicted = true;
            }
        }
    }

    /// The node learns that it has changed the bucket.
    pub(crate) fn heard(&mut self, node: usize, changed: Vec<(String, usize)>) {
        let later = self.later;
        for (key, state) in changed {
            for image in 0..self.images.len() {
                let known = &self.images[image];
                // Who has closed it again meanwhile sees it until that is kept, too.
                if known.node == node && known.is_beside(&key) && known.local && known.conflicted && !later {
                    known.names.clone().iter().for_each(|name| self.leaves(image, name));
                    self.images[image].local = false;
                }
            }
            // Of an operation that fails midway the node does not believe what it has heard.
            if self.calm {
                self.floors.entry((node, key)).or_default().push((simulated::elapsed(), state));
            }
        }
    }

    /// The rounds in which the images were that an upload may send which begins now.
    pub(crate) fn rounds(&self) -> Vec<usize> {
        let lately = simulated::elapsed().saturating_sub(UNDER_WAY);
        self.images.iter().map(|image| image.round_at(lately)).collect()
    }

    /// An operation begins that may do anything to these names; a directory's end in `/`.
    pub(crate) fn intend(&mut self, node: usize, keys: &[&str]) -> usize {
        let keys = keys.iter().map(|&key| key.to_owned()).collect();
        self.intents_count += 1;
        self.intents.insert(self.intents_count, Intent { node, keys });
        self.intents_count
    }

    /// It has come to an end that everybody knows.
    pub(crate) fn done(&mut self, intent: usize) {
        self.intents.remove(&intent);
    }

    /// The node's images of this name that count.
    pub(crate) fn named(&self, node: usize, key: &str) -> Vec<usize> {
        let here = |image: &Image| image.node == node && image.gone != Gone::Yes && image.names.contains(key);
        self.images.iter().enumerate().filter(|(_, image)| here(image)).map(|(index, _)| index).collect()
    }

    /// A name is opened and shows these bytes: as the image that an inode is known as, another of the node's own, or a
    /// new one.
    pub(crate) fn opened(
        &mut self,
        (node, key): (usize, &str),
        known: Option<usize>,
        content: &Bytes,
        asked: Asked,
    ) -> usize {
        // Of several names only bytes tell which it has.
        let is_it = |image: &Image| {
            image.round_of(content).is_some() && (image.names.len() == 1 || !content.is_empty())
        };
        // Who has it open may have written since it was read.
        let written = known.filter(|image| {
            let image = &self.images[*image];
            image.handles > 0
                && image.local
                && image.from(image.round_at(asked.at)).any(|bytes| bytes == content)
        });
        let known = known.filter(|image| self.images[*image].now().any(|bytes| bytes == content));
        let own = || {
            self.named(node, key).into_iter().rev().find(|image| {
                let image = &self.images[*image];
                image.local && image.handles == 0 && is_it(image)
            })
        };
        let states = self.states(key, asked.since).filter_map(|(_, content)| content.clone());
        let based: Vec<Bytes> = states.collect();
        if let Some(image) = written {
            self.images[image].based.extend(based);
            return image;
        }
        if let Some(image) = known.or_else(own) {
            self.images[image].names = BTreeSet::from([key.to_owned()]);
            self.images[image].settle_on(content);
            self.images[image].based.extend(based);
            return image;
        }
        for image in self.named(node, key) {
            // The node shows something else by that name.
            let image = &mut self.images[image];
            match image.handles {
                0 => image.local = false,
                _ if !image.local => image.gone = Gone::Yes,
                _ => {}
            }
        }
        let now = simulated::elapsed();
        self.images.push(Image {
            node,
            names: BTreeSet::from([key.to_owned()]),
            gone: Gone::No,
            contents: vec![Content { round: 0, at: now, bytes: content.clone() }],
            // What is new here shows here.
            local: !based.contains(content),
            promised: None,
            conflicted: false,
            renamed: false,
            stored: based.contains(content),
            based,
            crashed: false,
            since: asked.since,
            handles: 0,
            writers: 0,
            busy: 0,
            locked: 0,
        });
        self.images.len() - 1
    }

    /// The names of images, to go back to them.
    pub(crate) fn remember(&self, images: &[usize]) -> Vec<Known> {
        let known = |image: &usize| {
            let Image { names, gone, .. } = &self.images[*image];
            (*image, names.clone(), *gone)
        };
        images.iter().map(known).collect()
    }

    /// Nothing has come of an operation.
    pub(crate) fn forget(&mut self, known: Vec<Known>) {
        for (image, names, gone) in known {
            (self.images[image].names, self.images[image].gone) = (names, gone);
        }
    }

    /// A rename or an exchange begins: from now on either name may be that of either.
    pub(crate) fn renaming(&mut self, node: usize, pairs: &[(&str, &str)], replaces: bool, since: Duration) {
        for (from, to) in pairs {
            for target in self.named(node, to).into_iter().filter(|_| replaces && !from.ends_with('/')) {
                self.images[target].gone = self.images[target].gone.max(Gone::Maybe);
            }
        }
        let replaced: Vec<(String, Vec<Bytes>)> = pairs
            .iter()
            .map(|(_, to)| {
                ((*to).to_owned(), self.states(to, since).filter_map(|(_, state)| state.clone()).collect())
            })
            .collect();
        for image in self.images.iter_mut().filter(|image| image.node == node) {
            for ((from, to), (_, replaced)) in pairs.iter().zip(&replaced) {
                let moved: Vec<String> =
                    image.names.iter().filter_map(|name| moved(name, from, to)).collect();
                if !moved.is_empty() {
                    image.names.extend(moved);
                    image.based.extend(replaced.iter().cloned());
                    image.since = since;
                    image.renamed = true;
                }
            }
        }
    }

    /// It has been done: who was called `from` is called `to`. `sources` and `targets` are the images that were then.
    pub(crate) fn renamed(
        &mut self,
        (from, to): (&str, &str),
        sources: &[usize],
        targets: &[usize],
        since: Duration,
    ) {
        for target in targets {
            self.leaves(*target, to);
            let image = &mut self.images[*target];
            image.gone = Gone::Yes;
            image.local = false;
        }
        let replaced: Vec<Bytes> = self.states(to, since).filter_map(|(_, state)| state.clone()).collect();
        for source in sources {
            let old: Vec<String> = self.images[*source].names.iter().cloned().collect();
            old.iter()
                .filter(|name| moved(name, from, to).is_some())
                .for_each(|name| self.leaves(*source, name));
            let image = &mut self.images[*source];
            let names = image.names.iter().filter(|name| moved(name, from, to).is_none());
            image.names = names.cloned().collect();
            image.based.extend(replaced.iter().cloned());
        }
    }

    /// The name is gone. Which image had it of those that have others, too, nobody knows.
    pub(crate) fn unnamed(&mut self, images: &[usize], name: &str) {
        for image in images {
            self.leaves(*image, name);
            let image = &mut self.images[*image];
            image.names.remove(name);
            if image.names.is_empty() {
                (image.gone, image.local) = (Gone::Yes, false);
            }
        }
    }

    fn leaves(&mut self, image: usize, name: &str) {
        let (node, name, at) = (self.images[image].node, name.to_owned(), simulated::elapsed());
        self.left.push(Left { node, name, image, at });
    }

    /// The node is killed.
    pub(crate) fn crashed(&mut self, node: usize) {
        for image in self.images.iter_mut().filter(|image| image.node == node) {
            // It may come back from the journal.
            (image.crashed, image.local) = (true, true);
            (image.handles, image.writers, image.busy, image.locked) = (0, 0, 0, 0);
        }
    }

    /// The node says that everything is in the bucket.
    pub(crate) fn drained(&mut self, node: usize) {
        for image in 0..self.images.len() {
            let known = &self.images[image];
            if known.node == node && known.local && !known.conflicted && !known.crashed && known.handles == 0
            {
                let (round, durable) = (known.round(), true);
                self.told(&Told::Kept { image, round, durable });
                self.images[image].local = false;
            } else if known.node == node && known.conflicted {
                self.images[image].local = false;
            }
        }
    }

    /// A listing shows a name, or does not.
    pub(crate) fn listed(&mut self, node: usize, key: &str, is_there: bool, asked: Asked) {
        let is_opened =
            is_there && self.opening.iter().any(|(who, name)| (*who, name.as_str()) == (node, key));
        if !is_opened && !self.visible(node, key, asked).iter().any(|content| content.is_some() == is_there) {
            self.complain(format!("a listing says of {key} on node {node}: there = {is_there}"));
        }
    }

    /// Whether nothing may have been there.
    pub(crate) fn may_be_free(&self, node: usize, key: &str, asked: Asked) -> bool {
        self.visible(node, key, asked).contains(&None)
    }

    /// The node's images of this name, or below this directory.
    pub(crate) fn below(&self, node: usize, key: &str) -> Vec<usize> {
        let names = |image: &Image| image.names.iter().any(|name| moved(name, key, key).is_some());
        let here = |image: &Image| image.node == node && image.gone != Gone::Yes && names(image);
        self.images.iter().enumerate().filter(|(_, image)| here(image)).map(|(index, _)| index).collect()
    }

    /// Whether the bucket has never had one of these.
    pub(crate) fn is_new(&self, images: &[usize]) -> bool {
        images.iter().any(|image| !self.images[*image].stored)
    }

    /// Everything has come to rest: what was promised is kept.
    pub(crate) fn settled(&mut self) {
        let promised: Vec<_> =
            self.images.iter().enumerate().filter_map(|(n, image)| Some((n, image.promised?))).collect();
        for (image, round) in promised {
            let verdict = self.judge(&Event::Told(&Told::Kept { image, round, durable: true }));
            self.note(verdict);
        }
    }

    pub(crate) fn judges_no_more(&mut self) {
        self.undecided = true;
    }

    pub(crate) fn complain(&mut self, wrong: String) {
        self.note(Err(wrong));
    }
}

impl Image {
    /// Of several things that it may be it is this.
    fn settle_on(&mut self, content: &Bytes) {
        if self.now().any(|bytes| bytes != content) {
            let (round, at) = (self.round() + 1, simulated::elapsed());
            self.contents.push(Content { round, at, bytes: content.clone() });
        }
        self.crashed = false;
    }
}

/// The name that `name` has after a rename; of what is below it too, if it is a directory's.
fn moved(name: &str, from: &str, to: &str) -> Option<String> {
    let rest = name.strip_prefix(from)?;
    (rest.is_empty() || from.ends_with('/')).then(|| format!("{to}{rest}"))
}
