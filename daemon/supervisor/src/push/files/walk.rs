//! Opens a file component by component, so that a user cannot use a symbolic or hard link to make the
//! supervisor pass on a file that the user cannot read.
//!
//! Root and the user that runs the supervisor are trusted. A link of any other user is followed only to that
//! user's own files. In a directory that another user may write to, a file must belong to one of these three
//! users. Nothing is opened before its owner was checked, and everything is checked again on the descriptor
//! that is passed on. A FUSE file system is a program of its user, and it can report root as the owner of any
//! file. Nothing on a FUSE file system is accessed.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, StatxFlags, fstat, openat, readlinkat, statx};
use rustix::io::Errno;
use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// The maximum number of links in one path; this is also the kernel's limit (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// The permission bits that let users other than the owner write.
const OTHERS_WRITE: u32 = 0o022;

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenFault {
    /// A system call failed.
    #[error("{0}")]
    System(#[from] Errno),
    /// A link that leads to another user's file.
    #[error("the symbolic link {} belongs to user {owner}, but its target belongs to user {target}", .link.display())]
    Link {
        /// The link.
        link: PathBuf,
        /// Its owner.
        owner: u32,
        /// The file's owner.
        target: u32,
    },
    /// A file in a user's directory that belongs to a third user, or that has another name.
    #[error(
        "it is in a directory of user {directory} that users other than root can write to, but belongs to user {owner}{}",
        if *.linked { " and has other names (hard links)" } else { "" }
    )]
    Foreign {
        /// The directory's owner.
        directory: u32,
        /// The file's owner.
        owner: u32,
        /// Whether it has other names.
        linked: bool,
    },
    /// The file is on a file system that a program implements.
    #[error("{} is a FUSE file system, where file ownership cannot be trusted", .0.display())]
    Fuse(PathBuf),
    /// The file was replaced between the check and the opening.
    #[error("it changed while it was opened: try again")]
    Changed,
}

impl OpenFault {
    /// Returns the remedy.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::System(_) => "check the path, and that luassl's supervisor can read it",
            Self::Link { .. } => "name the file itself, or let root or the file's owner create the link",
            Self::Foreign { .. } => {
                "give the file to the directory's owner, or let only root write to the directory (chmod go-w)"
            }
            Self::Fuse(_) => "keep it on a file system that is implemented in the kernel",
            Self::Changed => "reload again when the files no longer change",
        }
    }
}

/// Opens `path`, which is absolute, for reading.
///
/// # Errors
/// Returns [`OpenFault`] if the file must not or cannot be opened.
pub(crate) fn open_trusted(path: &Path) -> Result<OwnedFd, OpenFault> {
    open_for(path, rustix::process::geteuid().as_raw())
}

/// Like [`open_trusted`], for a supervisor that runs as the user `own`.
fn open_for(path: &Path, own: u32) -> Result<OwnedFd, OpenFault> {
    let mut walk = Walk::from_root(path, own)?;
    while let Some(component) = walk.left.pop_front() {
        if let Some(file) = walk.step(&component)? {
            return Ok(file);
        }
    }
    // The path ended in a directory; reading it fails with an error.
    walk.open(OsStr::new("."), &fstat(&walk.directory)?)
}

struct Walk {
    own: u32,
    /// The current directory of the walk.
    directory: OwnedFd,
    /// Its path, for messages.
    at: PathBuf,
    left: VecDeque<OsString>,
    /// The number of links that the walk has followed.
    links: usize,
    /// The followed links that untrusted users created, with their owners.
    untrusted: Vec<(PathBuf, u32)>,
    /// Devices of FUSE file systems.
    fuse: BTreeSet<(u32, u32)>,
}

impl Walk {
    fn from_root(path: &Path, own: u32) -> Result<Self, Errno> {
        let mut walk = Self {
            own,
            directory: root()?,
            at: PathBuf::from("/"),
            left: VecDeque::new(),
            links: 0,
            untrusted: Vec::new(),
            fuse: fuse_devices(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
        };
        walk.put_before(path)?;
        Ok(walk)
    }

    /// Puts the components of `path` before the remaining ones.
    fn put_before(&mut self, path: &Path) -> Result<(), Errno> {
        if path.is_absolute() {
            (self.directory, self.at) = (root()?, PathBuf::from("/"));
        }
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.left.push_front(name.to_owned()),
                Component::ParentDir => self.left.push_front(OsString::from("..")),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        Ok(())
    }

    /// Advances by one component. Returns the file if the component was its name.
    fn step(&mut self, name: &OsStr) -> Result<Option<OwnedFd>, OpenFault> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = openat(&self.directory, name, flags, Mode::empty())?;
        // The file system is not queried, because it may never answer. Its root is in the kernel's memory.
        let at = statx(&next, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::empty())?;
        if self.fuse.contains(&(at.stx_dev_major, at.stx_dev_minor)) {
            return Err(OpenFault::Fuse(self.at.join(name)));
        }
        let stat = fstat(&next)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => self.follow(name, &next, &stat).map(|()| None),
            FileType::Directory => {
                self.directory = next;
                self.at.push(name);
                Ok(None)
            }
            _ if self.left.is_empty() => self.open(name, &stat).map(Some),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    fn follow(&mut self, name: &OsStr, link: &OwnedFd, stat: &Stat) -> Result<(), OpenFault> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let owner = self.maker(stat)?;
        if !self.trusts(owner) {
            self.untrusted.push((self.at.join(name), owner));
        }
        let target = readlinkat(link, "", Vec::new())?;
        self.put_before(Path::new(&OsString::from_vec(target.into_bytes())))?;
        Ok(())
    }

    /// Returns the user that put a link into the current directory: its owner, unless the link has other
    /// names. If it has, any user with write access to this directory may have created this name.
    fn maker(&self, link: &Stat) -> Result<u32, Errno> {
        let directory = fstat(&self.directory)?;
        let brought = link.st_nlink > 1 && !self.trusts(directory.st_uid);
        Ok(if brought { directory.st_uid } else { link.st_uid })
    }

    fn trusts(&self, user: u32) -> bool {
        user == 0 || user == self.own
    }

    /// Opens the file itself and compares the result of the previous check with the opened file.
    fn open(&self, name: &OsStr, seen: &Stat) -> Result<OwnedFd, OpenFault> {
        // Opening a device can have effects, and a link may lead to one.
        self.judge(seen)?;
        // Without NONBLOCK, opening a pipe would wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = openat(&self.directory, name, flags, Mode::empty()).map_err(|errno| match errno {
            // It was not a link when it was checked.
            Errno::LOOP => OpenFault::Changed,
            errno => OpenFault::System(errno),
        })?;
        let stat = fstat(&file)?;
        if (stat.st_dev, stat.st_ino) != (seen.st_dev, seen.st_ino) {
            return Err(OpenFault::Changed);
        }
        self.judge(&stat)?;
        Ok(file)
    }

    fn judge(&self, file: &Stat) -> Result<(), OpenFault> {
        if let Some((link, owner)) = self.untrusted.iter().find(|(_, owner)| *owner != file.st_uid) {
            return Err(OpenFault::Link { link: link.clone(), owner: *owner, target: file.st_uid });
        }
        let directory = fstat(&self.directory)?;
        let owner = directory.st_uid;
        let users = !self.trusts(owner) && file.st_uid != owner;
        let foreign = users && !self.trusts(file.st_uid);
        // Any user with write access to the directory may have created the second name.
        let by_others = directory.st_mode & OTHERS_WRITE != 0 && !is_safe_from_links(file);
        let linked = file.st_nlink > 1 && (users || by_others);
        let is_file = FileType::from_raw_mode(file.st_mode) != FileType::Directory;
        if is_file && (foreign || linked) {
            return Err(OpenFault::Foreign { directory: owner, owner: file.st_uid, linked });
        }
        Ok(())
    }
}

/// Returns whether the kernel lets only the owner give the file another name. The kernel then requires write
/// access to the file (`fs.protected_hardlinks`, proc_sys_fs(5)).
fn is_safe_from_links(file: &Stat) -> bool {
    let protected = std::fs::read_to_string("/proc/sys/fs/protected_hardlinks");
    file.st_mode & OTHERS_WRITE == 0 && protected.is_ok_and(|text| text.trim() == "1")
}

/// Returns the devices of FUSE file systems in a list of mounts (proc_pid_mountinfo(5)).
fn fuse_devices(mounts: &str) -> BTreeSet<(u32, u32)> {
    let device = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let is_fuse = kind.starts_with("fuse ") || kind.starts_with("fuse.") || kind.starts_with("fuseblk");
        let (major, minor) = mount.split(' ').nth(2)?.split_once(':')?;
        is_fuse.then_some((major.parse().ok()?, minor.parse().ok()?))
    };
    mounts.lines().filter_map(device).collect()
}

fn root() -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(rustix::fs::CWD.as_fd(), "/", flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    const TENANT: u32 = 54_321;
    const OTHER: u32 = 54_322;

    /// Creates `tenant/`, which belongs to the tenant, `other/` and `root/`. Each contains the file `key` of
    /// its owner.
    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().expect("a directory");
        for (name, owner) in [("tenant", TENANT), ("other", OTHER), ("root", 0)] {
            let directory = tree.path().join(name);
            std::fs::create_dir(&directory).expect("a directory");
            std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).expect("a mode");
            std::fs::write(directory.join("key"), name).expect("a file");
            own(&directory, owner);
            own(&directory.join("key"), owner);
        }
        tree
    }

    fn own(path: &Path, user: u32) {
        lchown(path, Some(user), Some(user)).expect("root gives files away");
    }

    fn link(target: impl AsRef<Path>, at: &Path, user: u32) {
        symlink(target, at).expect("a link");
        own(at, user);
    }

    /// Returns the content, or the reason of the failure.
    fn read(path: &Path) -> Result<String, String> {
        let file = open_for(path, 0).map_err(|fault| fault.to_string())?;
        let mut text = String::new();
        std::fs::File::from(file).read_to_string(&mut text).expect("read");
        Ok(text)
    }

    #[test]
    fn finding_9_mounts_of_fuse_are_told_from_others() {
        let mounts = "21 1 0:45 / /mnt/a rw - fuse.sshfs x rw\n22 1 0:46 / /mnt/b rw shared:1 - fuse /dev/fuse rw\n\
                      23 1 8:1 / / rw - ext4 /dev/vda rw\n24 1 0:7 / /sys/fs/fuse rw - fusectl x rw\n";
        assert_eq!(fuse_devices(mounts), BTreeSet::from([(0, 45), (0, 46)]));
    }

    mod needs_root {
        use super::*;

        #[test]
        fn finding_9_a_users_link_to_a_pipe_of_roots_opens_nothing() {
            let tree = tree();
            let pipe = tree.path().join("root/pipe");
            rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
            link("../root/pipe", &tree.path().join("tenant/link"), TENANT);
            link("pipe", &tree.path().join("root/link"), 0);
            let writer = || {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                rustix::fs::open(&pipe, flags, Mode::empty()).is_ok()
            };
            assert!(open_for(&tree.path().join("tenant/link"), 0).is_err());
            // Positive control: a writer that does not wait detects whether the other end is open.
            assert!(!writer());
            let open = open_for(&tree.path().join("root/link"), 0).expect("root's link");
            assert!(writer());
            drop(open);
        }

        #[test]
        fn finding_9_a_users_link_leads_to_that_users_files_alone() {
            let tree = tree();
            let at = |name: &str| tree.path().join(name);
            for (name, owner) in [("other", OTHER), ("root", 0)] {
                let stolen = at(&format!("tenant/{name}"));
                link(at(&format!("{name}/key")), &stolen, TENANT);
                // Positive control: an open that follows links reads the file.
                assert_eq!(std::fs::read_to_string(&stolen).as_deref().ok(), Some(name));
                let said = read(&stolen).expect_err("somebody else's file");
                assert!(said.contains(&format!("belongs to user {TENANT}, but")), "{said}");
                assert!(said.ends_with(&format!("its target belongs to user {owner}")), "{said}");
            }
            // A directory on the way, a link that is one of a chain, and one in root's own directory.
            link(at("other"), &at("tenant/directory"), TENANT);
            assert!(read(&at("tenant/directory/key")).is_err());
            link(at("tenant/other"), &at("root/chain"), 0);
            assert!(read(&at("root/chain")).is_err());
            link("../other/key", &at("root/relative"), TENANT);
            assert!(read(&at("root/relative")).is_err());
        }

        #[test]
        fn finding_9_links_of_root_and_to_ones_own_files_are_followed() {
            let tree = tree();
            let at = |name: &str| tree.path().join(name);
            link("../tenant/key", &at("tenant/own"), TENANT);
            assert_eq!(read(&at("tenant/own")).as_deref(), Ok("tenant"));
            link("../other/key", &at("root/given"), 0);
            assert_eq!(read(&at("root/given")).as_deref(), Ok("other"));
            link(at("root"), &at("tenant/roots"), 0);
            assert_eq!(read(&at("tenant/roots/key")).as_deref(), Ok("root"));
            assert_eq!(read(&at("tenant/.././root/key")).as_deref(), Ok("root"));
        }

        #[test]
        fn finding_9_a_hard_link_in_a_users_directory_is_refused() {
            let tree = tree();
            let at = |name: &str| tree.path().join(name);
            for name in ["other", "root"] {
                let stolen = at(&format!("tenant/{name}"));
                std::fs::hard_link(at(&format!("{name}/key")), &stolen).expect("root makes it");
                assert!(read(&stolen).expect_err("somebody else's").contains("hard links"));
                std::fs::remove_file(stolen).expect("removed");
            }
            // A file of root there, and a second name of the user's own file.
            std::fs::write(at("tenant/roots"), "root").expect("a file");
            assert_eq!(read(&at("tenant/roots")).as_deref(), Ok("root"));
            std::fs::hard_link(at("tenant/key"), at("tenant/again")).expect("a link");
            assert_eq!(read(&at("tenant/again")).as_deref(), Ok("tenant"));
            // A file of a third user.
            std::fs::write(at("tenant/third"), "other").expect("a file");
            own(&at("tenant/third"), OTHER);
            assert!(read(&at("tenant/third")).is_err());
        }

        #[test]
        fn finding_9_root_s_link_that_a_user_linked_again_is_that_user_s() {
            let tree = tree();
            let at = |name: &str| tree.path().join(name);
            link("../other/key", &at("root/given"), 0);
            std::fs::hard_link(at("root/given"), at("tenant/given")).expect("a second name of the link");
            assert!(read(&at("tenant/given")).is_err());
            assert_eq!(read(&at("root/given")).as_deref(), Ok("other"));
        }
    }

    #[test]
    fn faults_of_paths_are_the_systems() {
        let tree = tempfile::tempdir().expect("a directory");
        let at = |name: &str| tree.path().join(name);
        let own = rustix::process::geteuid().as_raw();
        let fault = |name: &str| open_for(&at(name), own).expect_err("no file").to_string();
        assert!(fault("nothing").starts_with("No such file or directory"));
        symlink(at("loop"), at("loop")).expect("a link");
        assert!(fault("loop").starts_with("Too many levels of symbolic links"));
        std::fs::write(at("file"), "").expect("a file");
        assert!(fault("file/below").starts_with("Not a directory"));
    }
}
