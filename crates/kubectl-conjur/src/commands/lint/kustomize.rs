//! Patches of Kustomize: they look like objects, and have only what they change.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::files;

/// The names that Kustomize takes for its own file.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// The real paths of what kustomizations name as patches: those beside these files, and those in the folders above them.
pub fn patches<'p>(files: impl Iterator<Item = &'p Path>) -> BTreeSet<PathBuf> {
    let folders: BTreeSet<&Path> = files.flat_map(|file| file.ancestors().skip(1)).collect();
    let mut all = BTreeSet::new();
    for (folder, name) in folders.iter().flat_map(|folder| KUSTOMIZATIONS.map(|name| (folder, name))) {
        let path = folder.join(name);
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for document in files::split(&path.display().to_string(), &text) {
            let named = document.value().map(|value| named(&value)).unwrap_or_default();
            all.extend(named.iter().filter_map(|patch| fs::canonicalize(folder.join(patch)).ok()));
        }
    }
    all
}

/// What a kustomization names; what it has inline names nothing.
fn named(kustomization: &Value) -> Vec<String> {
    let fields = ["patches", "patchesStrategicMerge", "patchesJson6902"];
    let entries = fields.iter().filter_map(|field| kustomization[*field].as_array()).flatten();
    let paths = entries.filter_map(|entry| entry["path"].as_str().or(entry.as_str()));
    paths.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_name_a_patch_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for below in ["base", "overlay/patches"] {
            fs::create_dir_all(root.join(below)).unwrap();
        }
        let files = ["base/a.yaml", "overlay/b.yaml", "overlay/patches/c.yaml", "overlay/d.yaml"];
        let files = files.map(|file| root.join(file));
        for file in &files {
            fs::write(file, "a: 1\n").unwrap();
        }
        let text = "resources: [d.yaml]\npatches:\n- path: b.yaml\n- patch: |-\n    kind: X\npatchesStrategicMerge: [patches/c.yaml, \"kind: X\\n\"]\n\
                    patchesJson6902:\n- {target: {kind: X}, path: ../base/a.yaml}\n- path: none.yaml\n";
        for name in KUSTOMIZATIONS {
            let path = root.join("overlay").join(name);
            fs::write(&path, text).unwrap();
            let found = patches([files[2].as_path()].into_iter());
            assert_eq!(found, files[..3].iter().cloned().collect(), "{name}");
            fs::remove_file(&path).unwrap();
        }
    }
}
