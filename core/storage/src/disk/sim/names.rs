//! The simulated directory tree. A new name, a rename and a removal are lost by a power cut unless
//! the directory was synced; POSIX promises no more, and neither does this.

use std::collections::{BTreeMap, BTreeSet};

use super::inode::CutMood;
use super::rng::SimRng;
use crate::disk::{DirEntry, parent_of};

/// A file's identity, which outlives its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InodeId(pub(crate) u64);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Dir,
    File(InodeId),
}

#[derive(Clone, Debug)]
enum NameChange {
    Put { path: String, node: Node },
    Rename { from: String, to: String, node: Node },
    RemoveTree { path: String },
}

impl NameChange {
    fn dir(&self) -> &str {
        match self {
            NameChange::Put { path, .. } | NameChange::RemoveTree { path } => parent_of(path),
            NameChange::Rename { to, .. } => parent_of(to),
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            NameChange::Put { path, node } => {
                names.insert(path.clone(), *node);
            }
            NameChange::Rename { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
            NameChange::RemoveTree { path } => {
                let below = format!("{path}/");
                names.retain(|name, _| name != path && !name.starts_with(&below));
            }
        }
    }
}

/// The tree: as the device has it, as a process sees it, and the changes between the two.
#[derive(Default)]
pub(crate) struct Names {
    durable: BTreeMap<String, Node>,
    live: BTreeMap<String, Node>,
    pending: Vec<NameChange>,
}

impl Names {
    /// A tree that is on the device as it is.
    pub(crate) fn durable(nodes: BTreeMap<String, Node>) -> Names {
        Names { durable: nodes.clone(), live: nodes, pending: Vec::new() }
    }

    /// Every name, as a process sees it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Node)> {
        self.live.iter().map(|(path, node)| (path.as_str(), *node))
    }

    pub(crate) fn get(&self, path: &str) -> Option<Node> {
        self.live.get(path).copied()
    }

    pub(crate) fn has_dir(&self, dir: &str) -> bool {
        dir.is_empty() || self.get(dir) == Some(Node::Dir)
    }

    /// The files that have a name.
    pub(crate) fn inodes(&self) -> BTreeSet<InodeId> {
        let nodes = self.live.values();
        nodes.filter_map(|node| if let Node::File(id) = node { Some(*id) } else { None }).collect()
    }

    pub(crate) fn list(&self, dir: &str) -> Vec<DirEntry> {
        let found = self.live.iter().filter(|(path, _)| parent_of(path) == dir);
        found
            .map(|(path, node)| DirEntry {
                name: path.rsplit('/').next().unwrap_or(path).to_owned(),
                is_dir: *node == Node::Dir,
            })
            .collect()
    }

    pub(crate) fn put(&mut self, path: &str, node: Node) {
        self.change(NameChange::Put { path: path.to_owned(), node });
    }

    pub(crate) fn create_dir_all(&mut self, dir: &str) {
        let ends = dir.match_indices('/').map(|(at, _)| at).chain([dir.len()]);
        for end in ends {
            if !self.has_dir(&dir[..end]) {
                self.put(&dir[..end], Node::Dir);
            }
        }
    }

    /// False if there is nothing to rename.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(node) = self.get(from) else {
            return false;
        };
        self.change(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), node });
        true
    }

    pub(crate) fn remove_tree(&mut self, path: &str) {
        if self.live.contains_key(path) {
            self.change(NameChange::RemoveTree { path: path.to_owned() });
        }
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    pub(crate) fn sync_dir(&mut self, dir: &str) {
        let pending = std::mem::take(&mut self.pending);
        for change in pending {
            if change.dir() == dir {
                change.apply(&mut self.durable);
            } else {
                self.pending.push(change);
            }
        }
    }

    pub(crate) fn cut(&mut self, mood: CutMood, rng: &mut SimRng) {
        for change in std::mem::take(&mut self.pending) {
            let survives = match mood {
                CutMood::LoseAll => false,
                CutMood::KeepAll => true,
                CutMood::EachItsOwn => rng.chance(500),
            };
            if survives {
                change.apply(&mut self.durable);
            }
        }
        self.live.clear();
        // In path order parents come first: what lost its directory is lost with it.
        for (path, node) in &self.durable {
            let parent = parent_of(path);
            if parent.is_empty() || self.live.get(parent) == Some(&Node::Dir) {
                self.live.insert(path.clone(), *node);
            }
        }
        self.durable = self.live.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_without_directory_sync_may_vanish_and_a_synced_one_never_does() {
        let mut rng = SimRng::new(1);
        let mut names = Names::default();
        names.create_dir_all("a/b");
        names.put("a/b/old", Node::File(InodeId(1)));
        for dir in ["", "a", "a/b"] {
            names.sync_dir(dir);
        }
        names.rename("a/b/old", "a/b/new");
        names.cut(CutMood::LoseAll, &mut rng);
        assert_eq!(names.get("a/b/new"), None);
        assert_eq!(names.get("a/b/old"), Some(Node::File(InodeId(1))));
        names.rename("a/b/old", "a/b/new");
        names.sync_dir("a/b");
        names.cut(CutMood::LoseAll, &mut rng);
        assert_eq!(names.get("a/b/new"), Some(Node::File(InodeId(1))));
        assert_eq!(names.get("a/b/old"), None);
    }
}
