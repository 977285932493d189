//! Names of apps by id, asked of the Qlik Sense repository service.

use std::collections::HashMap;

use uuid::Uuid;

/// Names of apps by id.
#[derive(Debug, Default)]
pub struct AppNames(HashMap<Uuid, Box<str>>);

impl AppNames {
    /// The name of an app, if it is known.
    #[must_use]
    pub fn get(&self, app: &Uuid) -> Option<&str> {
        self.0.get(app).map(AsRef::as_ref)
    }
}

impl FromIterator<(Uuid, String)> for AppNames {
    fn from_iter<I: IntoIterator<Item = (Uuid, String)>>(apps: I) -> Self {
        Self(apps.into_iter().map(|(id, name)| (id, name.into())).collect())
    }
}
