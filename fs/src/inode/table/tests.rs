use super::*;
use crate::inode::{Directory, Marker, Node};
use crate::meta::{Kind, Posix};
use crate::store::Headers;
use std::ffi::OsStr;
use std::time::{Instant, UNIX_EPOCH};

fn directory(ino: Ino) -> Inode {
    let posix = Posix::new(Kind::Directory, UNIX_EPOCH);
    let directory = Directory::new(posix, Headers::default(), Marker::Present, Instant::now());
    Inode { ino, node: Node::Directory(Box::new(directory)) }
}

fn name(text: &str) -> Name {
    Name::parse(OsStr::new(text)).expect("a plain name")
}

fn place(parent: Ino, text: &str) -> Place {
    Place { parent, name: name(text) }
}

fn table() -> Table {
    Table::new(Prefix::parse("base").expect("a plain prefix"), directory(Ino::ROOT), SessionLog::none())
}

#[test]
fn a_place_gives_the_key() {
    let table = table();
    let a = table.insert(place(Ino::ROOT, "a"), directory).ino;
    let b = table.insert(place(a, "b"), directory).ino;
    assert_eq!(table.key(b).expect("placed").as_str(), "base/a/b");
    assert_eq!(table.prefix(b).expect("placed").as_str(), "base/a/b/");
    table.rename(a, place(Ino::ROOT, "z"));
    assert_eq!(table.key(b).expect("moved along").as_str(), "base/z/b");
}

#[test]
fn an_inode_lives_while_it_is_looked_up_or_pinned() {
    let table = table();
    let inode = table.insert(place(Ino::ROOT, "a"), directory);
    table.looked_up(&inode, Some(place(Ino::ROOT, "a")));
    table.pin(inode.ino);
    table.forget(inode.ino, 1);
    assert!(table.inode(inode.ino).is_ok(), "pinned");
    table.remove(inode.ino);
    assert!(table.child(Ino::ROOT, &name("a")).is_none());
    assert!(table.key(inode.ino).is_err(), "no name, no key");
    table.unpin(inode.ino);
    assert!(table.inode(inode.ino).is_err());
    assert_eq!(table.len(), 1);
}

#[test]
fn a_directory_lives_while_it_has_children() {
    let table = table();
    let a = table.insert(place(Ino::ROOT, "a"), directory);
    let b = table.insert(place(a.ino, "b"), directory);
    table.looked_up(&b, Some(place(a.ino, "b")));
    table.looked_up(&a, Some(place(Ino::ROOT, "a")));
    table.forget(a.ino, 1);
    assert_eq!(table.key(b.ino).expect("parent kept").as_str(), "base/a/b");
    table.forget(b.ino, 1);
    assert_eq!(table.len(), 1, "both are gone");
}

#[test]
fn a_replaced_inode_keeps_no_name() {
    let table = table();
    let old = table.insert(place(Ino::ROOT, "a"), directory);
    table.pin(old.ino);
    let new = table.insert(place(Ino::ROOT, "a"), directory);
    assert!(table.key(old.ino).is_err());
    assert_eq!(table.child(Ino::ROOT, &name("a")).expect("there").ino, new.ino);
}

#[test]
fn a_forget_that_crosses_a_lookup_loses_nothing() {
    let table = table();
    let inode = table.insert(place(Ino::ROOT, "a"), directory);
    table.looked_up(&inode, Some(place(Ino::ROOT, "a")));
    table.forget(inode.ino, 1);
    assert!(table.inode(inode.ino).is_err());
    table.looked_up(&inode, Some(place(Ino::ROOT, "a")));
    assert_eq!(table.key(inode.ino).expect("back").as_str(), "base/a");
}

#[test]
fn a_directory_is_below_itself_and_its_parents() {
    let table = table();
    let a = table.insert(place(Ino::ROOT, "a"), directory).ino;
    let b = table.insert(place(a, "b"), directory).ino;
    assert!(table.is_below(b, a) && table.is_below(a, a) && table.is_below(b, Ino::ROOT));
    assert!(!table.is_below(a, b));
}
