//! Pictures of a simulated disk: what a power cut that loses nothing would leave. A test changes
//! the picture, sector by sector if need be, and starts a node on it. It must never share bytes
//! with the disk that it was taken of.

use std::collections::BTreeMap;

use super::names::{InodeId, Names, Node};
use super::{SimClock, SimDisk};

/// The files and directories of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimImage {
    files: BTreeMap<String, Vec<u8>>,
    dirs: Vec<String>,
}

impl SimImage {
    /// The paths of all files, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// A file's bytes.
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(Vec::as_slice)
    }

    /// A file's bytes, to be changed.
    pub fn file_mut(&mut self, path: &str) -> Option<&mut Vec<u8>> {
        self.files.get_mut(path)
    }

    /// Puts a file in place of what has its name.
    pub fn put(&mut self, path: &str, bytes: Vec<u8>) {
        self.files.insert(path.to_owned(), bytes);
    }

    /// Removes a file, or a directory with all in it.
    pub fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.files.retain(|name, _| name != path && !name.starts_with(&below));
        self.dirs.retain(|name| name != path && !name.starts_with(&below));
    }
}

impl SimDisk {
    /// What a reader sees now. Operations in flight are not in it.
    pub fn image(&self) -> SimImage {
        let state = self.state.borrow();
        let mut image = SimImage::default();
        for (path, node) in state.names.iter() {
            match node {
                Node::Dir => image.dirs.push(path.to_owned()),
                Node::File(id) => {
                    let bytes = state.inodes.get(&id).map_or(&[][..], |inode| inode.read_all());
                    image.put(path, bytes.to_vec());
                }
            }
        }
        image
    }

    /// A disk that holds an image, all of it durable.
    pub fn with_image(clock: SimClock, seed: u64, image: &SimImage) -> SimDisk {
        let disk = SimDisk::new(clock, seed);
        {
            let state = &mut *disk.state.borrow_mut();
            let mut nodes: BTreeMap<String, Node> =
                image.dirs.iter().map(|dir| (dir.clone(), Node::Dir)).collect();
            for (path, bytes) in &image.files {
                let id = InodeId(state.next_inode);
                state.next_inode += 1;
                state.inodes.insert(id, super::inode::Inode::durable(bytes.clone()));
                nodes.insert(path.clone(), Node::File(id));
            }
            state.names = Names::durable(nodes);
        }
        disk
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimExecutor;
    use crate::disk::{AlignedBuf, Disk, DiskFile, OpenMode};

    #[test]
    fn a_disk_made_of_an_image_holds_it_through_a_power_cut() {
        let executor = SimExecutor::new(1);
        let disk = SimDisk::new(executor.clock(), 1);
        let writer = disk.clone();
        executor.block_on(async move {
            writer.create_dir_all("a/b").await.unwrap();
            let file = writer.open("a/b/f", OpenMode::CREATE).await.unwrap();
            file.write_at(0, AlignedBuf::copied_from(&[7; 600], 512)).await.0.unwrap();
        });
        let mut image = disk.image();
        assert_eq!(image.paths().collect::<Vec<_>>(), ["a/b/f"]);
        image.file_mut("a/b/f").unwrap()[0] = 8;
        let copy = SimDisk::with_image(executor.clock(), 2, &image);
        copy.power_cut();
        assert_eq!(copy.content("a/b/f").unwrap()[..2], [8, 7]);
        assert_eq!(copy.image(), image);
        assert_eq!(disk.content("a/b/f").unwrap()[0], 7);
        image.remove("a");
        assert_eq!(image, SimImage::default());
    }
}
