//! Power cuts of a real file system: ext4 on a direct-I/O loop device over a file on XFS. A copy of
//! that file by reflink, at any moment, is what the device would hold if the power went then: all
//! that was written to it, and nothing that only the page cache knew. The copy is mounted (ext4
//! replays its own journal) and a broker starts on it, while the original runs on.
//!
//! What it does not show: a device that loses what it has in a cache of its own. That is the
//! simulator's part. Must never leave a mount or a loop device behind, also where a test fails.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::binary;
use crate::command::Program;

/// The file on the test's own disk in which everything happens. It is sparse.
const OUTER_BYTES: u64 = 6 << 30;
/// The disk of a broker under test, sparse as well.
const DISK_BYTES: u64 = 1 << 30;

/// Names, in the directory of a run, the process that it belongs to.
const OWNER: &str = "owner";

const PATIENCE: Duration = Duration::from_secs(60);
/// How long a mount may be busy that nobody should use any more.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// What must be installed, and the Debian package that brings it.
const TOOLS: [(&str, &str); 6] = [
    ("mkfs.xfs", "xfsprogs"),
    ("mkfs.ext4", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("losetup", "mount"),
    ("mount", "mount"),
    ("umount", "mount"),
];

/// Where images are made: an XFS of its own in a file. It lasts as long as its last image.
pub struct Lab(Arc<Site>);

struct Site {
    // Dropped in this order: the mount before the directory that it hangs in.
    outer: Mount,
    home: TempDir,
    images: AtomicU32,
}

impl Lab {
    /// Opens one, or says in a sentence what this machine lacks for it.
    pub fn open() -> Result<Lab, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root may mount".into());
        }
        for (tool, package) in TOOLS {
            if find(tool).is_none() {
                return Err(format!("no {tool} (Debian package {package}; tests/setup)"));
            }
        }
        let home = binary::scratch();
        sweep(home.path());
        let owner = home.path().join(OWNER);
        std::fs::write(&owner, std::process::id().to_string())
            .map_err(|error| format!("{}: {error}", owner.display()))?;
        let file = home.path().join("outer.img");
        sparse(&file, OUTER_BYTES)?;
        run("mkfs.xfs", [OsStr::new("-q"), OsStr::new("-mreflink=1"), file.as_ref()])?;
        let outer = Mount::of(&file, &home.path().join("outer"), Through::PageCache)?;
        let lab = Lab(Arc::new(Site { outer, home, images: AtomicU32::new(0) }));
        // What may be refused is tried now; from here on a refusal is a failure.
        drop(lab.new_disk()?.cut()?.mount("probe")?);
        Ok(lab)
    }

    /// A new disk with an empty ext4 on it.
    pub fn new_disk(&self) -> Result<Image, String> {
        let image = Image::on(&self.0);
        sparse(&image.file, DISK_BYTES)?;
        // Nothing is left to be initialised later: the load alone should write.
        let lazy = OsStr::new("-Elazy_itable_init=0,lazy_journal_init=0");
        run("mkfs.ext4", [OsStr::new("-q"), lazy, image.file.as_ref()])?;
        Ok(image)
    }
}

/// A disk, or what was left of one. Its file goes when it is dropped.
pub struct Image {
    site: Arc<Site>,
    file: PathBuf,
}

impl Image {
    fn on(site: &Arc<Site>) -> Image {
        let number = site.images.fetch_add(1, Ordering::Relaxed);
        let file = site.outer.point().join(format!("{number}.img"));
        Image { site: site.clone(), file }
    }

    /// What a power cut would leave at some moment of this call.
    pub fn cut(&self) -> Result<Image, String> {
        let image = Image::on(&self.site);
        let clone = || {
            let from = File::open(&self.file)?;
            let to = File::create_new(&image.file)?;
            Ok::<(), std::io::Error>(rustix::fs::ioctl_ficlone(&to, &from)?)
        };
        clone().map_err(|error| format!("reflink of {}: {error}", self.file.display()))?;
        Ok(image)
    }

    /// Mount it under a name that no other mount has now; ext4 recovers what was cut.
    pub fn mount(&self, name: &str) -> Result<Mount, String> {
        Mount::of(&self.file, &self.site.home.path().join(name), Through::Nothing)
    }

    /// Complaints of the file system's own checker about an image that is not mounted.
    pub fn complaints(&self) -> Option<String> {
        run("e2fsck", [OsStr::new("-fn"), self.file.as_ref()]).err()
    }

    /// Keep a copy at `path`, for a closer look.
    pub fn keep(&self, path: &Path) -> Result<(), String> {
        run("cp", [OsStr::new("--sparse=always"), self.file.as_ref(), path.as_ref()]).map(drop)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        std::fs::remove_file(&self.file).ok();
    }
}

/// How a loop device reaches its file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Through {
    PageCache,
    /// Direct I/O: what is written to the device is in the file.
    Nothing,
}

/// A mounted image. Unmounted, and its loop device freed, when it is dropped.
pub struct Mount {
    point: PathBuf,
}

impl Mount {
    fn of(file: &Path, point: &Path, through: Through) -> Result<Mount, String> {
        std::fs::create_dir_all(point).map_err(|error| format!("{}: {error}", point.display()))?;
        let direct = match through {
            Through::PageCache => "--direct-io=off",
            Through::Nothing => "--direct-io=on",
        };
        let words = [OsStr::new("--find"), "--show".as_ref(), direct.as_ref(), file.as_ref()];
        let device = run("losetup", words)?.trim().to_owned();
        let mounted = is_as_asked(&device, through)
            .and_then(|()| run("mount", [OsStr::new(&device), point.as_ref()]));
        // From now on the device goes with its last user; at once, if it was not mounted.
        let freed = run("losetup", ["--detach".as_ref(), OsStr::new(&device)]);
        mounted.and(freed)?;
        Ok(Mount { point: point.to_owned() })
    }

    /// Where it is mounted.
    pub fn point(&self) -> &Path {
        &self.point
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let (point, start) = (self.point.as_os_str(), Instant::now());
        // The kernel may be at the files of a broker for a moment after its death.
        while let Err(error) = run("umount", [point]) {
            if start.elapsed() > BUSY_MAX {
                eprintln!("it goes when its last user is done: {error}");
                run("umount", [OsStr::new("--lazy"), point]).ok();
                break;
            }
        }
        std::fs::remove_dir(&self.point).ok();
    }
}

/// Clear away what runs left behind that were killed themselves, beside this one's `home`.
fn sweep(home: &Path) {
    let beside = home.parent().map(std::fs::read_dir);
    for dir in beside.into_iter().flatten().flatten().flatten().map(|entry| entry.path()) {
        let Ok(owner) = std::fs::read_to_string(dir.join(OWNER)) else { continue };
        if Path::new("/proc").join(owner.trim()).exists() {
            continue;
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
        // The last one first: disks stand on the outer file system.
        let ours: Vec<&Path> = points.filter(|point| point.starts_with(&dir)).collect();
        for point in ours.into_iter().rev() {
            run("umount", ["--lazy".as_ref(), point.as_os_str()]).ok();
        }
        std::fs::remove_dir_all(&dir).ok();
    }
}

/// Whether the kernel does direct I/O where it was asked for.
fn is_as_asked(device: &str, through: Through) -> Result<(), String> {
    let name = device.rsplit('/').next().unwrap_or_default();
    let path = format!("/sys/block/{name}/loop/dio");
    let is_direct = std::fs::read_to_string(&path).is_ok_and(|text| text.trim() == "1");
    match through {
        Through::Nothing if !is_direct => {
            Err(format!("no direct I/O on loop devices here ({path} is not 1)"))
        }
        _ => Ok(()),
    }
}

fn sparse(path: &Path, bytes: u64) -> Result<(), String> {
    let made = File::create_new(path).and_then(|file| file.set_len(bytes));
    made.map_err(|error| format!("{}: {error}", path.display()))
}

/// Where a program is; those of root may stand outside `PATH`.
fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir| dir.join(tool)).find(|path| path.is_file())
}

/// Run a tool to its good end; what it printed, or what it complained of.
fn run<'a>(tool: &str, words: impl IntoIterator<Item = &'a OsStr>) -> Result<String, String> {
    let program = find(tool).unwrap_or_else(|| tool.into());
    let outcome = Program::new(program, words).run(PATIENCE);
    if outcome.succeeded() { Ok(outcome.stdout) } else { Err(outcome.to_string()) }
}
