//! How much memory the operator may take: a control group where one can be made, and else its own peak, looked at.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

const GROUPS: &str = "/sys/fs/cgroup";

/// A control group with a bound of memory; it goes when this is dropped.
#[derive(Debug)]
pub struct MemoryGroup {
    folder: PathBuf,
    second: bool,
}

impl MemoryGroup {
    /// Makes one, of either version; none where that can't be done here, as without root.
    pub fn new(mebibytes: usize) -> Option<Self> {
        let name = format!("conjur-operator-attack-{}", std::process::id());
        let second = Path::new(GROUPS).join("cgroup.controllers").exists();
        let parent = if second { PathBuf::from(GROUPS) } else { Path::new(GROUPS).join("memory") };
        let group = Self { folder: parent.join(name), second };
        std::fs::create_dir(&group.folder).ok()?;
        let bound = (mebibytes * 1024 * 1024).to_string();
        let file = if second { "memory.max" } else { "memory.limit_in_bytes" };
        std::fs::write(group.folder.join(file), bound).ok()?;
        if second {
            // Where there is no swap, there is no such file, and nothing to bound.
            std::fs::write(group.folder.join("memory.swap.max"), "0").ok();
        }
        Some(group)
    }

    /// Where processes are put into it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many of its processes were killed for the memory that they took.
    pub fn killed(&self) -> Result<u64> {
        let file = if self.second { "memory.events" } else { "memory.oom_control" };
        let path = self.folder.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let killed = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(killed.and_then(|count| count.trim().parse().ok()).unwrap_or_default())
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // A process that is still ending keeps it; what is left is an empty folder of the kernel's.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}
