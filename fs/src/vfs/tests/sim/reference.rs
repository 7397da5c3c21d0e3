//! What is right. The reference follows the bucket's history and what each node's programs were told, and judges each
//! event on its own: [`Reference::judge`] is the whole definition, everything else is book-keeping.
//!
//! An [`Image`] is what one file is to the programs of one node, from its opening on: each write makes a new *round* of
//! it. Every written byte is unique, so contents that are equal are the same.

mod books;

use crate::clock::simulated;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// Who changed the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Node(usize),
    /// A client that is no mount, and may do anything.
    Foreign,
}

/// By which request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Means {
    Put,
    /// The completion of this upload.
    Upload(String),
    Copy,
    Delete,
}

/// A change of one key.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) who: Who,
    pub(super) key: String,
    pub(super) before: Option<Bytes>,
    pub(super) after: Option<Bytes>,
    pub(super) means: Means,
}

/// What a program was told.
#[derive(Debug)]
pub(super) enum Told {
    /// By flush or fsync: the image is kept as it was in this round, `durable` in the bucket, else in the journal.
    Kept { image: usize, round: usize, durable: bool },
    /// The name shows these bytes, or nothing.
    Shows { node: usize, key: String, content: Option<Bytes>, asked: Asked },
    /// These bytes of the image, asked for in this round.
    Read { image: usize, round: usize, offset: usize, length: usize, bytes: Bytes },
    /// The name is gone.
    Removed { node: usize, key: String, since: Duration },
    /// Another error than faults or other clients could explain.
    Failed { what: String },
}

/// When a name was asked for: what was true before `since` is no answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// For what the bucket says.
    pub(super) since: Duration,
    /// For what programs of the same node did.
    pub(super) at: Duration,
}

/// Whether an image has lost its name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gone {
    No,
    /// An operation that takes it away is under way, or nobody knows how one has ended.
    Maybe,
    Yes,
}

/// One content of an image.
#[derive(Debug)]
struct Content {
    round: usize,
    at: Duration,
    bytes: Bytes,
}

/// A file, as one node's programs know it.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) node: usize,
    /// What it may be called.
    pub(super) names: BTreeSet<String>,
    pub(super) gone: Gone,
    /// Of one round there are two where a truncation may or may not have been done.
    contents: Vec<Content>,
    /// Objects that it was made from, or has become.
    based: Vec<Bytes>,
    /// The last round that somebody was promised.
    promised: Option<usize>,
    /// The node may show it, whatever the bucket has.
    pub(super) local: bool,
    /// The bucket has had it, in some round.
    stored: bool,
    /// It is kept beside another client's object.
    conflicted: bool,
    /// It had another name before, under which others may have changed it.
    renamed: bool,
    /// Its node has died since.
    crashed: bool,
    /// When the bucket last had it under its name.
    since: Duration,
    pub(super) handles: usize,
    pub(super) writers: usize,
    /// Operations on it that are under way.
    pub(super) busy: usize,
    /// Truncations that are under way: the kernel lets nobody else write or truncate.
    pub(super) locked: usize,
}

/// What a key had that nobody ever touched.
static NEVER: Option<Bytes> = None;

/// What a key had from this time on.
#[derive(Debug)]
struct State {
    from: Duration,
    content: Option<Bytes>,
    by: Who,
}

/// Names that an operation of a node may change, whatever is there.
#[derive(Debug)]
struct Intent {
    node: usize,
    keys: Vec<String>,
}

/// An image that had a name on a node until then.
#[derive(Debug)]
struct Left {
    node: usize,
    name: String,
    image: usize,
    at: Duration,
}

#[derive(Default)]
pub(super) struct Reference {
    history: BTreeMap<String, Vec<State>>,
    pub(super) images: Vec<Image>,
    intents: BTreeMap<usize, Intent>,
    intents_count: usize,
    /// Names of a node that are being opened: they may be there before anybody is told.
    pub(super) opening: Vec<(usize, String)>,
    left: Vec<Left>,
    /// No request fails.
    pub(super) calm: bool,
    /// A close does not wait for the bucket.
    pub(super) later: bool,
    /// The first state of a key that a node may still show, from which time on.
    floors: HashMap<(usize, String), Vec<(Duration, usize)>>,
    /// The rounds of all images when an upload began.
    pub(super) uploads: BTreeMap<String, Vec<usize>>,
    pub(super) trace: Vec<String>,
    /// What comes from now on nobody can tell to be right or wrong.
    undecided: bool,
    /// What was wrong first.
    pub(super) wrong: Option<String>,
}

impl Image {
    pub(super) fn round(&self) -> usize {
        self.contents.last().map_or(0, |content| content.round)
    }

    /// What it may be now.
    fn now(&self) -> impl Iterator<Item = &Bytes> {
        self.from(self.round())
    }

    /// What it was from this round on.
    fn from(&self, round: usize) -> impl Iterator<Item = &Bytes> {
        self.contents.iter().filter(move |content| content.round >= round).map(|content| &content.bytes)
    }

    /// The last round in which it was this.
    fn round_of(&self, bytes: &Bytes) -> Option<usize> {
        self.contents.iter().rev().find(|content| content.bytes == bytes).map(|content| content.round)
    }

    /// The round it was in at that time.
    fn round_at(&self, time: Duration) -> usize {
        self.contents.iter().rev().find(|content| content.at < time).map_or(0, |content| content.round)
    }

    /// Whether the bytes are those of some moments since that round.
    fn is_mix(&self, bytes: &Bytes, round: usize) -> bool {
        is_mix(bytes, self.from(round).map(|content| &content[..]))
    }

    /// Whether it was made from this, or is this.
    fn knows(&self, bytes: &Bytes) -> bool {
        self.based.contains(bytes) || self.round_of(bytes).is_some()
    }

    /// Whether it may be kept under this key.
    fn fits(&self, key: &str) -> bool {
        self.names.contains(key) || self.is_beside(key)
    }

    /// Whether the key is one for its bytes that lost to another client's, or are set aside.
    fn is_beside(&self, key: &str) -> bool {
        let rest = |name: &String| key.strip_prefix(name.as_str());
        self.names
            .iter()
            .filter_map(rest)
            .any(|rest| rest.starts_with(".conflict-") || rest.starts_with(".exchange-"))
    }

    /// Another round, made from what it may be now.
    pub(super) fn change(&mut self, change: impl Fn(&Bytes) -> Bytes) {
        let (round, at) = (self.round() + 1, simulated::elapsed());
        let changed: Vec<_> = self.now().map(&change).collect();
        self.contents.extend(changed.into_iter().map(|bytes| Content { round, at, bytes }));
        self.local = true;
    }

    /// Another round that may be shorter or longer; [`Self::truncated`] says that it is.
    pub(super) fn truncating(&mut self, size: usize) {
        let (round, at) = (self.round() + 1, simulated::elapsed());
        let both: Vec<_> = self.now().flat_map(|bytes| [resized(bytes, size), bytes.clone()]).collect();
        self.contents.extend(both.into_iter().map(|bytes| Content { round, at, bytes }));
        self.local = true;
    }

    pub(super) fn truncated(&mut self, size: usize) {
        self.change(|bytes| resized(bytes, size));
        // Done or not before, it is done now.
        let round = self.round();
        self.contents.dedup_by(|one, other| one.round == round && one.bytes == other.bytes);
    }
}

fn resized(bytes: &Bytes, size: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes.resize(size, 0);
    bytes.into()
}

/// Longer than a request is on its way after its file was looked at; another request may come first.
const UNDER_WAY: Duration = Duration::from_secs(9);

/// Whether each byte is that of some candidate.
fn is_mix<'a>(bytes: &[u8], candidates: impl Iterator<Item = &'a [u8]>) -> bool {
    let candidates: Vec<_> = candidates.collect();
    candidates.iter().any(|candidate| candidate.len() == bytes.len())
        && bytes
            .iter()
            .enumerate()
            .all(|(at, byte)| candidates.iter().any(|known| known.get(at) == Some(byte)))
}

/// What is judged.
pub(super) enum Event<'a> {
    Changed(&'a Change),
    Told(&'a Told),
}

impl Reference {
    /// Says what is wrong with an event, by these rules:
    ///
    /// 1. What a node puts under a key is what a file of that name was at one moment, whole; a mix of moments only
    ///    if the file was written to during its upload.
    /// 2. What a node takes away, or replaces, is what its file was made from, or an operation of its programs was
    ///    meant to do that to the name, whatever it stands for.
    /// 3. Bytes are kept beside an object only if somebody else has changed that.
    /// 4. What is acknowledged as kept the bucket has had, unless the name was taken away.
    /// 5. A name shows what the bucket has had under it since it was asked for, or what the node's own programs made
    ///    of it; "no such file" means that there was none.
    /// 6. A read gives the image as it was since it was asked for.
    ///
    /// By 4, 1 and 2 every acknowledged byte is in the bucket, or was replaced or removed on purpose.
    fn judge(&self, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Changed(change) => match change.who {
                Who::Foreign => Ok(()),
                Who::Node(_) if change.before == change.after => Ok(()),
                Who::Node(node) => {
                    self.may_be_put(node, change)?;
                    self.may_be_taken_away(node, change)?;
                    self.is_no_false_conflict(node, change)
                }
            },
            Event::Told(Told::Kept { image, round, durable }) => self.is_kept(*image, *round, *durable),
            Event::Told(Told::Shows { node, key, content, asked }) => {
                if self.visible(*node, key, *asked).contains(&content.as_ref()) {
                    return Ok(());
                }
                Err(format!(
                    "{key} shows {} on node {node}: it was not that since {:?}",
                    show(content),
                    asked.since
                ))
            }
            Event::Told(Told::Read { image, round, offset, length, bytes }) => {
                let image = &self.images[*image];
                let part = |whole: &'_ Bytes| {
                    let end = whole.len().min(offset + length);
                    whole.slice((*offset).min(end)..end)
                };
                let parts: Vec<Bytes> = image.from(*round).map(part).collect();
                if parts.contains(bytes)
                    || (parts.len() > 1 && is_mix(bytes, parts.iter().map(|part| &part[..])))
                {
                    return Ok(());
                }
                Err(format!("read {} of {:?}: it was never that", show(&Some(bytes.clone())), image.names))
            }
            Event::Told(Told::Removed { node, key, since }) => {
                // What another client has put there stays.
                let last = self.history.get(key).and_then(|states| states.last());
                let others = last.is_none_or(|state| state.by != Who::Node(*node));
                if others || self.states(key, *since).any(|(_, content)| content.is_none()) {
                    return Ok(());
                }
                Err(format!("{key} was to be gone, and the bucket has it"))
            }
            Event::Told(Told::Failed { what }) => Err(format!("an error without a reason: {what}")),
        }
    }

    fn may_be_put(&self, node: usize, change: &Change) -> Result<(), String> {
        let Change { key, after, means, .. } = change;
        if after.as_ref().is_none_or(Bytes::is_empty) {
            return Ok(());
        }
        if *means == Means::Copy {
            // The bytes are those of an object; where to is the operation's.
            let meant = self.is_meant(node, key) || key.contains(".exchange-");
            return if meant {
                Ok(())
            } else {
                Err(format!("{key} is made by a copy that nobody asked for"))
            };
        }
        if self.owners(node, change).next().is_some() {
            return Ok(());
        }
        Err(format!("{key} gets {}: no file of this name was that", show(after)))
    }

    fn may_be_taken_away(&self, node: usize, change: &Change) -> Result<(), String> {
        let Change { key, before, after, means, .. } = change;
        let Some(lost) = before.as_ref().filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        if self.is_meant(node, key) || (*means == Means::Delete && key.contains(".exchange-")) {
            return Ok(());
        }
        let known = match (means, after) {
            (Means::Put | Means::Upload(_), Some(_)) => {
                self.owners(node, change).any(|(_, image)| image.knows(lost))
            }
            (Means::Put | Means::Upload(_) | Means::Copy | Means::Delete, _) => false,
        };
        if known { Ok(()) } else { Err(format!("{key} loses {}: it was not known", show(before))) }
    }

    fn is_no_false_conflict(&self, node: usize, change: &Change) -> Result<(), String> {
        if !matches!(change.means, Means::Put | Means::Upload(_)) {
            return Ok(());
        }
        for (_, image) in self.owners(node, change) {
            let (Some(name), true) = (image.names.first(), image.is_beside(&change.key)) else { continue };
            let only = image.names.len() == 1
                && !image.renamed
                && image.gone == Gone::No
                && !self.is_meant(node, name);
            if only && self.is_own(node, name) && !self.is_changed_by_others(node, name, image.since) {
                return Err(format!("{} is kept beside an object that nobody else has changed", change.key));
            }
        }
        Ok(())
    }

    /// Whether what the key has may be a file of the node; a renamed directory takes other clients' objects along.
    fn is_own(&self, node: usize, key: &str) -> bool {
        let last = self.history.get(key).and_then(|states| states.last());
        let Some(bytes) = last.and_then(|state| state.content.as_ref()) else { return true };
        self.images.iter().any(|image| image.node == node && image.is_mix(bytes, 0))
    }

    pub(super) fn is_removed_by_others(&self, node: usize, key: &str) -> bool {
        let states = self.history.get(key).map_or(&[][..], Vec::as_slice);
        states.iter().any(|state| state.by != Who::Node(node) && state.content.is_none())
    }

    fn is_changed_by_others(&self, node: usize, key: &str, since: Duration) -> bool {
        let states = self.history.get(key).map_or(&[][..], Vec::as_slice);
        states.iter().any(|state| state.by != Who::Node(node) && state.from >= since)
    }

    fn is_kept(&self, image: usize, round: usize, durable: bool) -> Result<(), String> {
        let image = &self.images[image];
        if !durable || image.gone != Gone::No || self.has_had(image, round) {
            return Ok(());
        }
        let promised: Vec<String> = image.from(round).map(|bytes| show(&Some(bytes.clone()))).collect();
        Err(format!("{:?} was to be kept, and the bucket never had it: {promised:?}", image.names))
    }

    /// Whether the bucket once had the image as it was in this round or later, or a mix of such moments, which the
    /// next commit replaces. Under which name is judged when it gets there.
    fn has_had(&self, image: &Image, round: usize) -> bool {
        let contents = self.history.values().flatten().filter_map(|state| state.content.as_ref());
        contents.into_iter().any(|bytes| image.is_mix(bytes, round))
    }

    /// What a name may show.
    fn visible(&self, node: usize, key: &str, asked: Asked) -> Vec<Option<&Bytes>> {
        let floors = self.floors.get(&(node, key.to_owned())).into_iter().flatten();
        let floor = floors.filter(|(from, _)| *from < asked.at).map(|(_, state)| *state).max().unwrap_or(0);
        let states = self.states(key, asked.since).filter(|(index, _)| *index >= floor);
        let mut visible: Vec<_> = states.map(|(_, content)| content.as_ref()).collect();
        for image in self.images.iter().filter(|image| image.node == node && image.names.contains(key)) {
            if image.local && image.gone != Gone::Yes {
                let round = if image.crashed { 0 } else { image.round_at(asked.at) };
                visible.extend(image.from(round).map(Some));
            }
        }
        // Who has looked before it lost the name is told later.
        let left = self
            .left
            .iter()
            .filter(|left| (left.node, left.name.as_str()) == (node, key) && left.at >= asked.at);
        for image in left.map(|left| &self.images[left.image]) {
            visible.extend(image.from(image.round_at(asked.at)).map(Some));
        }
        visible
    }

    /// What the bucket had under a key since then, each with its number.
    fn states(&self, key: &str, since: Duration) -> impl Iterator<Item = (usize, &Option<Bytes>)> {
        let states = self.history.get(key).map_or(&[][..], Vec::as_slice);
        let ends = states.iter().skip(1).map(|next| next.from).chain([Duration::MAX]);
        let lived = states.iter().zip(ends).enumerate().filter(move |(_, (_, end))| *end >= since);
        let never = states.is_empty().then_some((0, &NEVER));
        lived.map(|(index, (state, _))| (index, &state.content)).chain(never)
    }

    /// The images of a node that may be kept under the key and were once what it puts there. Programs that write
    /// during the upload may have it send a mix of the moments since it began.
    fn owners<'a>(&'a self, node: usize, change: &'a Change) -> impl Iterator<Item = (usize, &'a Image)> {
        let began = match &change.means {
            Means::Upload(id) => self.uploads.get(id).map_or(&[][..], Vec::as_slice),
            Means::Put | Means::Copy | Means::Delete => &[],
        };
        let lately = simulated::elapsed().saturating_sub(UNDER_WAY);
        let owns = move |(index, image): &(usize, &Image)| {
            let began = began.get(*index).copied().unwrap_or_else(|| image.round_at(lately));
            let is_it = |bytes| image.round_of(bytes).is_some() || image.is_mix(bytes, began);
            change.after.as_ref().is_some_and(is_it)
        };
        let mine = self.images.iter().enumerate();
        let mine = mine.filter(move |(_, image)| image.node == node && image.fits(&change.key));
        mine.filter(owns)
    }

    /// Whether an operation of the node may do anything to the key.
    fn is_meant(&self, node: usize, key: &str) -> bool {
        let covers =
            |known: &String| known == key || (known.ends_with('/') && key.starts_with(known.as_str()));
        self.intents.values().any(|intent| intent.node == node && intent.keys.iter().any(covers))
    }
}

/// Content for a message.
pub(super) fn show(content: &Option<Bytes>) -> String {
    match content {
        None => "nothing".to_owned(),
        Some(bytes) => {
            let mut text = format!("{} bytes", bytes.len());
            let mut runs: Vec<(u8, usize)> = Vec::new();
            for &byte in bytes {
                match runs.last_mut() {
                    Some((last, count)) if *last == byte => *count += 1,
                    _ => runs.push((byte, 1)),
                }
            }
            for (byte, count) in runs.iter().take(12) {
                text += &format!(" {byte:02x}*{count}");
            }
            text
        }
    }
}
