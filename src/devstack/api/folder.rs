//! A folder of resource files, and its edits.
//!
//! An edit is taken once the folder looked the same in two polls, so that a file that is being written, or
//! replaced by an editor, is not read half done. A bad edit is reported, and the last good state is kept.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tracing::{error, info, warn};

use super::{
    LoadError,
    link::link,
    problem::{Problem, Problems},
    resources::{Resources, parse},
};
use crate::proto::trunks::Trunk;

/// Mark by which one state of a file differs from another, without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

type Stamps = BTreeMap<PathBuf, Stamp>;

/// The folder as it was last seen, and what of it is in use.
pub(super) struct Folder {
    dir: PathBuf,
    /// Files as the last poll saw them.
    seen: Stamps,
    /// Files as they were last read.
    applied: Stamps,
    /// The last good state of each file.
    good: BTreeMap<PathBuf, Resources>,
    /// Notes that have been logged already.
    noted: HashSet<Problem>,
    /// True once the log has said that the folder cannot be read.
    lost: bool,
}

impl Folder {
    /// Reads the folder for the first time.
    ///
    /// # Errors
    /// When anything in it cannot be read, or is wrong.
    pub(super) fn open(dir: &Path) -> Result<(Self, Vec<Trunk>), LoadError> {
        let unreadable =
            |path: &Path, source| LoadError::Unreadable { path: path.display().to_string(), source };
        let seen = scan(dir).map_err(|source| unreadable(dir, source))?;
        let mut folder = Self {
            dir: dir.to_owned(),
            seen: seen.clone(),
            applied: seen,
            good: BTreeMap::new(),
            noted: HashSet::new(),
            lost: false,
        };
        let mut problems = Vec::new();
        for path in folder.applied.keys() {
            let text = fs::read_to_string(path).map_err(|source| unreadable(path, source))?;
            match parse(&name(path), &text) {
                Ok(resources) => {
                    folder.good.insert(path.clone(), resources);
                }
                Err(found) => problems.extend(found),
            }
        }
        // Refs are looked up among what could be read only where all could be: no problems that follow from
        // others.
        if !problems.is_empty() {
            return Err(LoadError::Invalid(Problems(problems)));
        }
        let trunks = link(folder.good.values()).map_err(|problems| LoadError::Invalid(Problems(problems)))?;
        if folder.good.is_empty() {
            warn!(folder = %dir.display(), "there is no *.yaml, *.yml or *.json in the folder of resources");
        }
        folder.log_notes();
        Ok((folder, trunks))
    }

    /// Looks at the folder again; the trunks where an edit changed them.
    pub(super) fn poll(&mut self) -> Option<Vec<Trunk>> {
        let now = match scan(&self.dir) {
            Ok(now) => now,
            Err(error) => {
                if !self.lost {
                    warn!(folder = %self.dir.display(), %error, "the folder of resources cannot be read; its last good state is kept");
                }
                self.lost = true;
                return None;
            }
        };
        self.lost = false;
        let settled = now == self.seen;
        self.seen = now;
        if !settled || self.seen == self.applied {
            return None;
        }
        let edited: Vec<PathBuf> = self
            .seen
            .iter()
            .filter(|(path, stamp)| self.applied.get(*path) != Some(stamp))
            .map(|(path, _)| path.clone())
            .collect();
        let mut texts = Vec::with_capacity(edited.len());
        for path in edited {
            match fs::read_to_string(&path) {
                Ok(text) => texts.push((path, text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                Err(error) => {
                    warn!(file = name(&path), %error, "cannot be read; its last good state is kept")
                }
            }
        }
        self.applied = self.seen.clone();
        let (seen, before) = (&self.seen, self.good.len());
        self.good.retain(|path, _| seen.contains_key(path));
        let mut useful = self.good.len() < before;
        for (path, text) in texts {
            match parse(&name(&path), &text) {
                Ok(resources) => {
                    useful = true;
                    self.good.insert(path, resources);
                }
                Err(problems) => rejected(problems, "a resource file is wrong; its last good state is kept"),
            }
        }
        if !useful {
            return None;
        }
        match link(self.good.values()) {
            Ok(trunks) => {
                self.log_notes();
                info!(trunks = trunks.len(), "the resource files were edited and read again");
                Some(trunks)
            }
            Err(problems) => {
                rejected(
                    problems,
                    "the resource files do not fit together; the last good state of all is kept",
                );
                None
            }
        }
    }

    /// Says what is probably not meant, each thing once.
    fn log_notes(&mut self) {
        let fresh = self.fresh_notes();
        if !fresh.is_empty() {
            warn!("resource files: {}", Problems(fresh));
        }
    }

    /// The notes that have not been logged before.
    fn fresh_notes(&mut self) -> Vec<Problem> {
        let fresh: Vec<Problem> = self
            .good
            .values_mut()
            .flat_map(|resources| std::mem::take(&mut resources.notes))
            .filter(|note| !self.noted.contains(note))
            .collect();
        self.noted.extend(fresh.iter().cloned());
        fresh
    }
}

/// Says why an edit is not used.
fn rejected(problems: Vec<Problem>, what: &str) {
    error!("{what}: {}", Problems(problems));
}

/// The resource files of a folder. Hidden files are left out: editors and Kubernetes keep their own in them.
fn scan(dir: &Path) -> io::Result<Stamps> {
    let mut stamps = Stamps::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if name(&path).starts_with('.') || !["yaml", "yml", "json"].contains(&extension) {
            continue;
        }
        let metadata = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let stamp = Stamp {
            inode: metadata.ino(),
            length: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        stamps.insert(path, stamp);
    }
    Ok(stamps)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_probably_not_meant_is_noted_once() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("t.yaml");
        let text = "- apiVersion: v2
  kind: Trunk
  ref: t
  spec:
    outbound:
      sendRegster: true
      uris: [{ uri: { host: h } }]
";
        fs::write(&path, text).unwrap();
        let (mut folder, _) = Folder::open(dir.path()).unwrap();
        let noted: Vec<String> = folder.noted.iter().map(ToString::to_string).collect();
        assert_eq!(noted.len(), 2);
        for note in [
            "t.yaml: Trunk t: spec.outbound.sendRegster: unknown, did you mean sendRegister?",
            "t.yaml: Trunk t: spec.outbound.uris[0].enabled: missing, so the URI is not used: set enabled: true to use it",
        ] {
            assert!(noted.iter().any(|n| n == note), "{note}\nnot in {noted:?}");
        }
        // Read again, with one slip more: only that is new.
        let edited = format!("{text}    inbond: {{}}\n");
        folder.good.insert(path, parse("t.yaml", &edited).unwrap());
        let fresh: Vec<String> = folder.fresh_notes().iter().map(ToString::to_string).collect();
        assert_eq!(fresh, ["t.yaml: Trunk t: spec.inbond: unknown, did you mean inbound?"]);
    }
}
