//! The annotation that permits to rotate keys which were lost.

use std::collections::BTreeSet;

/// The logins that the annotation `rotate-keys` permits to rotate.
pub fn permitted_rotations(annotation: Option<&str>) -> BTreeSet<&str> {
    annotation.unwrap_or_default().split(',').map(str::trim).filter(|login| !login.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rotation_annotation_is_a_list_of_logins() {
        assert_eq!(permitted_rotations(Some(" host/a, alice@x ,,")), BTreeSet::from(["host/a", "alice@x"]));
        assert!(permitted_rotations(None).is_empty());
    }
}
