//! The files of an image.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Where the certificates of public authorities are, in the image.
pub const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";
const ON_THIS_MACHINE: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// The files of an image, by their path without the first slash.
#[derive(Debug, Default)]
pub struct Rootfs {
    files: BTreeMap<String, File>,
    /// The shared libraries among them, by their paths on this machine.
    pub libraries: Vec<PathBuf>,
}

#[derive(Debug)]
struct File {
    content: Vec<u8>,
    mode: u32,
}

impl Rootfs {
    /// A program as `/NAME`, the shared libraries that it names, certificates of public authorities, and an account.
    /// There is no shell, and nothing else.
    pub fn of_program(program: &Path, name: &str) -> Result<Self> {
        let mut rootfs = Self::default();
        rootfs.add_file(program, name, 0o755)?;
        for library in libraries(program)? {
            rootfs.add_file(&library, library.display().to_string().trim_start_matches('/'), 0o755)?;
            rootfs.libraries.push(library);
        }
        let certificates = ON_THIS_MACHINE.map(Path::new).into_iter().find(|path| path.is_file());
        let certificates =
            certificates.context("no certificates of public authorities: install ca-certificates")?;
        rootfs.add_file(certificates, CERTIFICATES, 0o644)?;
        rootfs.add("etc/passwd", b"nonroot:x:65532:65532::/:/none\n".to_vec(), 0o644);
        rootfs.add("etc/group", b"nonroot:x:65532:\n".to_vec(), 0o644);
        // glibc asks for these where the file is missing, too; it says so here.
        rootfs.add("etc/nsswitch.conf", b"hosts: files dns\n".to_vec(), 0o644);
        Ok(rootfs)
    }

    /// Adds a file of this machine.
    pub fn add_file(&mut self, from: &Path, path: &str, mode: u32) -> Result<()> {
        let content = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        self.add(path, content, mode);
        Ok(())
    }

    fn add(&mut self, path: &str, content: Vec<u8>, mode: u32) {
        self.files.insert(path.to_owned(), File { content, mode });
    }

    /// The paths of all files, without the first slash.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Writes the files into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        for (path, file) in &self.files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
            std::fs::write(&path, &file.content).with_context(|| format!("writing {}", path.display()))?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(file.mode))?;
        }
        Ok(())
    }

    /// The files as an archive, each owned by root and as old as time, with the folders they are in.
    pub(crate) fn tar(&self) -> Result<Vec<u8>> {
        let mut out = tar::Builder::new(Vec::new());
        let folders = self.files.keys().flat_map(|path| Path::new(path).ancestors().skip(1));
        let mut folders: Vec<&Path> = folders.filter(|folder| !folder.as_os_str().is_empty()).collect();
        folders.sort_unstable();
        folders.dedup();
        for folder in folders {
            let mut header = header(0o755, 0);
            header.set_entry_type(tar::EntryType::Directory);
            out.append_data(&mut header, folder, std::io::empty())?;
        }
        for (path, file) in &self.files {
            append_file(&mut out, path, &file.content, file.mode)?;
        }
        Ok(out.into_inner()?)
    }
}

/// The shared libraries of a program and of each other, where the loader finds them; none for one that needs none.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("running ldd")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if let Some(missing) = said.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", program.display(), missing.trim());
    }
    // `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and the loader itself as `/lib64/ld-linux-….so.2 (0x…)`.
    let mut paths: Vec<PathBuf> =
        said.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
    paths.sort_unstable();
    paths.dedup();
    Ok(paths)
}

/// Adds a file to an archive.
pub(crate) fn append_file<W: Write>(
    out: &mut tar::Builder<W>,
    path: &str,
    content: &[u8],
    mode: u32,
) -> Result<()> {
    let mut header = header(mode, content.len() as u64);
    header.set_entry_type(tar::EntryType::Regular);
    out.append_data(&mut header, path, content).with_context(|| format!("adding {path} to an archive"))
}

fn header(mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}
