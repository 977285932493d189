//! Where keys stand, for those who find something about a setting once the file has been read.

use std::sync::Arc;

use super::document::{Node, Path, Position};

/// A file, as far as its keys have places.
#[derive(Clone, Debug)]
pub struct Places {
    file: Arc<str>,
    root: Node,
}

impl Places {
    pub(super) fn new(file: &str, root: Node) -> Self {
        Self { file: file.into(), root }
    }

    /// The file as it was named on the command line.
    #[must_use]
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// Line and column, both from 1, of a key such as `Butler-SOS.influxdbConfig.host`; where the file
    /// does not have it, of the nearest section that it has.
    #[must_use]
    pub fn of(&self, key: &str) -> (usize, usize) {
        let Position { line, column } = Path::Keys(&Path::Root, key).locate(&self.root).at;
        (line, column)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_key_or_the_section_where_it_would_stand() {
        let text = "Butler-SOS:\n  userEvents:\n    enable: true\n  ringside:\n    shards: auto\n";
        let places = crate::config::parse(text, "f.yaml").expect("a valid file").places;
        assert_eq!(&**places.file(), "f.yaml");
        assert_eq!(places.of("Butler-SOS.ringside.shards"), (5, 13));
        assert_eq!(places.of("Butler-SOS.ringside.spool.dir"), (4, 3));
        assert_eq!(places.of("Butler-SOS.mqttConfig.brokerHost"), (1, 1));
    }
}
