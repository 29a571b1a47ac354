//! One suite, three disks: what storage relies on holds for each of them alike.

use std::path::Path;

use super::portable::PortableDisk;
use super::sim::{SimDisk, SimExecutor};
use super::uring::UringDisk;
use super::{AlignedBuf, BackendChoice, Disk, DiskFile, OpenMode, RealDisk};

const BLOCK: usize = 4096;

async fn suite<D: Disk>(disk: D) {
    names_appear_move_and_go(&disk).await;
    bytes_come_back(&disk).await;
    reads_stop_at_the_end(&disk).await;
    direct_files_take_whole_blocks(&disk).await;
    many_operations_at_once(&disk).await;
    missing_files_are_told_apart(&disk).await;
    a_lock_is_exclusive(&disk).await;
    free_space_is_known(&disk).await;
}

async fn names_appear_move_and_go<D: Disk>(disk: &D) {
    disk.create_dir_all("a/b").await.expect("directories");
    disk.sync_dir("").await.expect("sync");
    disk.open("a/b/one", OpenMode::CREATE).await.expect("create");
    disk.open("a/b/two", OpenMode::CREATE).await.expect("create");
    disk.rename("a/b/one", "a/b/three").await.expect("rename");
    disk.sync_dir("a/b").await.expect("sync");
    let names: Vec<_> =
        disk.list("a/b").await.expect("list").into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["three", "two"]);
    assert!(disk.list("a").await.expect("list")[0].is_dir);
    disk.remove_file("a/b/two").await.expect("remove");
    disk.remove_file("a/b/two").await.expect("removing what is not there is fine");
    disk.remove_dir_all("a").await.expect("remove");
    assert_eq!(disk.list("a").await.expect("list"), []);
    disk.remove_dir_all("a").await.expect("removing what is not there is fine");
}

async fn free_space_is_known<D: Disk>(disk: &D) {
    let space = disk.space().await.expect("space");
    assert!(space.free_bytes > 0 && space.free_bytes <= space.total_bytes, "{space:?}");
}

async fn bytes_come_back<D: Disk>(disk: &D) {
    let file = disk.open("bytes", OpenMode::CREATE).await.expect("create");
    let (result, buf) = file.write_at(3, AlignedBuf::copied_from(b"hello", 512)).await;
    result.expect("write");
    assert_eq!(buf.as_slice(), b"hello", "the buffer comes back as it was");
    file.sync().await.expect("sync");
    let (result, _) = file.write_durable(8, AlignedBuf::copied_from(b" there", 512)).await;
    result.expect("durable write");
    assert_eq!(file.len_bytes().await.expect("length"), 14);
    let again = disk.open("bytes", OpenMode::EXISTING).await.expect("open");
    let (result, buf) = again.read_at(0, AlignedBuf::with_capacity(64, 512), 14).await;
    result.expect("read");
    assert_eq!(buf.as_slice(), b"\0\0\0hello there");
    again.set_len_bytes(5).await.expect("cut");
    assert_eq!(file.len_bytes().await.expect("length"), 5);
}

async fn reads_stop_at_the_end<D: Disk>(disk: &D) {
    let file = disk.open("short", OpenMode::CREATE).await.expect("create");
    file.write_at(0, AlignedBuf::copied_from(&[7; 100], 512)).await.0.expect("write");
    let (result, buf) = file.read_at(60, AlignedBuf::with_capacity(512, 512), 512).await;
    result.expect("read");
    assert_eq!(buf.as_slice(), [7; 40]);
    let (result, buf) = file.read_at(1000, buf, 10).await;
    result.expect("read");
    assert!(buf.is_empty());
}

async fn direct_files_take_whole_blocks<D: Disk>(disk: &D) {
    let block = disk.block_bytes();
    assert!(block >= BLOCK && block.is_power_of_two());
    let file = disk.open("direct", OpenMode::CREATE_DIRECT).await.expect("create");
    let mut buf = AlignedBuf::with_capacity(2 * block, block);
    for index in 0..4_u8 {
        buf.clear();
        buf.extend_from_slice(&vec![index; block]);
        let (result, returned) = file.write_durable(u64::from(index) * block as u64, buf).await;
        result.expect("write");
        buf = returned;
    }
    let (result, buf) = file.read_at(block as u64, buf, 2 * block).await;
    result.expect("read");
    assert_eq!(buf.as_slice()[0], 1);
    assert_eq!(buf.as_slice()[block], 2);
}

async fn many_operations_at_once<D: Disk>(disk: &D) {
    let file = disk.open("many", OpenMode::CREATE).await.expect("create");
    let writes = (0..200_u64).map(|index| {
        let file = file.clone();
        async move {
            let buf = AlignedBuf::copied_from(&index.to_le_bytes(), 512);
            file.write_at(index * 8, buf).await.0
        }
    });
    for result in futures::future::join_all(writes).await {
        result.expect("write");
    }
    let (result, buf) = file.read_at(0, AlignedBuf::with_capacity(2048, 512), 2048).await;
    result.expect("read");
    assert_eq!(buf.len(), 1600);
    for (index, bytes) in buf.as_slice().chunks(8).enumerate() {
        assert_eq!(bytes, (index as u64).to_le_bytes());
    }
}

async fn missing_files_are_told_apart<D: Disk>(disk: &D) {
    let Err(error) = disk.open("nothing", OpenMode::EXISTING).await else {
        panic!("opened a file that is not there");
    };
    assert!(error.is_not_found(), "{error}");
    let Err(error) = disk.rename("nothing", "else").await else {
        panic!("renamed a file that is not there");
    };
    assert!(error.is_not_found(), "{error}");
}

async fn a_lock_is_exclusive<D: Disk>(disk: &D) {
    let held = disk.try_lock("LOCK").await.expect("lock");
    assert!(held.is_some());
    assert!(disk.try_lock("LOCK").await.expect("lock").is_none());
    drop(held);
    assert!(disk.try_lock("LOCK").await.expect("lock").is_some());
}

fn on_tokio(test: impl AsyncFnOnce()) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(test());
}

#[test]
fn the_simulated_disk_conforms() {
    for seed in 0..20 {
        let executor = SimExecutor::new(seed);
        let disk = SimDisk::new(executor.clock(), seed);
        executor.block_on(suite(disk));
    }
}

#[test]
fn the_portable_disk_conforms() {
    let dir = tempfile::tempdir().expect("directory");
    on_tokio(async || suite(PortableDisk::open(dir.path(), 3).expect("disk")).await);
}

/// tmpfs took O_DIRECT only lately; where it does not, the cache is used and all else holds.
#[test]
fn the_portable_disk_conforms_on_a_memory_file_system() {
    if let Ok(dir) = tempfile::tempdir_in(Path::new("/dev/shm")) {
        on_tokio(async || suite(PortableDisk::open(dir.path(), 2).expect("disk")).await);
    }
}

#[test]
fn the_io_uring_disk_conforms_or_the_portable_one_takes_its_place() {
    let dir = tempfile::tempdir().expect("directory");
    on_tokio(async || match UringDisk::open(dir.path()) {
        Ok(disk) => suite(disk).await,
        Err(refusal) => {
            println!("NOT TESTED: io_uring is refused here: {refusal}");
            let disk = RealDisk::open(dir.path(), BackendChoice::Auto).expect("disk");
            assert_eq!(disk.backend_name(), "portable");
        }
    });
}

#[test]
fn the_backend_can_be_forced() {
    let dir = tempfile::tempdir().expect("directory");
    on_tokio(async || {
        let disk = RealDisk::open(dir.path(), BackendChoice::Portable).expect("disk");
        assert_eq!(disk.backend_name(), "portable");
        suite(disk).await;
    });
    assert_eq!("io_uring".parse(), Ok(BackendChoice::Uring));
    assert!("floppy".parse::<BackendChoice>().is_err());
}
