//! A file that leads the browser to the page: every user of the machine may read the arguments that a process is started with, and the
//! address contains the token.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

/// The file in a folder of its own, which nobody else may read. Both are deleted with this value.
pub(super) struct Doorway {
    folder: PathBuf,
    file: PathBuf,
}

impl Doorway {
    /// Creates a file that leads to `url`.
    pub(super) fn new(url: &str) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let folder = std::env::temp_dir().join(format!("ecs-updater-{:016x}", u64::from_ne_bytes(random)));
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        builder.mode(0o700);
        // This fails if the folder exists already, since then it is somebody else's.
        builder.create(&folder)?;
        let doorway = Self { file: folder.join("history.html"), folder };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        options.mode(0o600);
        options.open(&doorway.file)?.write_all(page(url).as_bytes())?;
        Ok(doorway)
    }

    /// The file to open.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Doorway {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.file);
        _ = std::fs::remove_dir(&self.folder);
    }
}

/// A page that leads to `url`, which is ours: nothing in it needs escaping.
pub(super) fn page(url: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>ecs-updater</title>\
         <meta name=\"referrer\" content=\"no-referrer\"><meta http-equiv=\"refresh\" content=\"0; url={url}\"></head>\
         <body><p><a href=\"{url}\">Open the history</a></p></body></html>\n"
    )
}
