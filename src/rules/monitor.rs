//! Which performance events are wanted.
//!
//! Opening one app makes the engine report fifteen to twenty calls, so an operator picks: a filter for
//! all apps, and filters for some apps. An event is wanted when one of them accepts it; with both off
//! or empty none is.
//!
//! Object types, objects and methods are compared byte for byte with what stands in the datagram, as
//! Butler SOS does: neither cleaned nor cut, case included. Ids of apps compare in any case
//! (differences 4 and 28).

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use uuid::Uuid;

use crate::event::{Column, Event};

/// The two filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MonitorFilter {
    /// The same for all apps (`allApps`); `None` when it is off.
    pub all_apps: Option<AllApps>,
    /// Each app its own (`appSpecific.app`); empty when it is off.
    pub app_specific: Vec<AppFilter>,
}

/// A filter for all apps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllApps {
    /// Apps whose events are not wanted (`appExclude`).
    pub exclude: Vec<AppSelector>,
    /// Which types of objects (`objectType`).
    pub object_types: Choice,
    /// Which methods (`method`).
    pub methods: Choice,
}

/// A filter for some apps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppFilter {
    /// The apps (`include`); none when it is empty.
    pub include: Vec<AppSelector>,
    /// Which types of objects (`objectType`).
    pub object_types: Choice,
    /// Which objects (`appObject`).
    pub objects: Choice,
    /// Which methods (`method`).
    pub methods: Choice,
}

/// An app by its id, by its name, or by both, which then both have to match. With neither, any app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppSelector {
    /// Id of the app.
    pub id: Option<Uuid>,
    /// Name of the app, case included.
    pub name: Option<String>,
}

/// Which texts are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// All but these.
    AllBut(Vec<String>),
    /// Only these.
    Only(Vec<String>),
}

type Set<T> = HashSet<T, RandomState>;

/// The filters, ready for looking up.
#[derive(Debug)]
pub(super) struct Monitor {
    all_apps: Option<AllAppsFilter>,
    app_specific: Vec<SomeAppsFilter>,
}

#[derive(Debug)]
struct AllAppsFilter {
    excluded: Apps,
    object_types: Texts,
    methods: Texts,
}

#[derive(Debug)]
struct SomeAppsFilter {
    included: Apps,
    object_types: Texts,
    objects: Texts,
    methods: Texts,
}

impl Monitor {
    pub fn new(filter: &MonitorFilter) -> Self {
        Self {
            all_apps: filter.all_apps.as_ref().map(|all| AllAppsFilter {
                excluded: Apps::new(&all.exclude),
                object_types: Texts::new(&all.object_types),
                methods: Texts::new(&all.methods),
            }),
            app_specific: filter
                .app_specific
                .iter()
                .map(|some| SomeAppsFilter {
                    included: Apps::new(&some.include),
                    object_types: Texts::new(&some.object_types),
                    objects: Texts::new(&some.objects),
                    methods: Texts::new(&some.methods),
                })
                .collect(),
        }
    }

    /// Whether one of the filters accepts the event.
    pub fn accepts(&self, event: &Event<'_>, app_name: Option<&str>) -> bool {
        let app = event.uuid(Column::AppId);
        self.all_apps.as_ref().is_some_and(|all| {
            !all.excluded.contain(app, app_name)
                && all.object_types.want(event, Column::ObjectType)
                && all.methods.want(event, Column::Method)
        }) || self.app_specific.iter().any(|some| {
            some.included.contain(app, app_name)
                && some.object_types.want(event, Column::ObjectType)
                && some.objects.want(event, Column::ObjectId)
                && some.methods.want(event, Column::Method)
        })
    }
}

/// Apps by id, by name and by both.
#[derive(Debug, Default)]
struct Apps {
    any: bool,
    ids: Set<Uuid>,
    names: Set<Box<str>>,
    named_ids: HashMap<Uuid, Vec<Box<str>>, RandomState>,
}

impl Apps {
    fn new(selectors: &[AppSelector]) -> Self {
        let mut apps = Self::default();
        for AppSelector { id, name } in selectors {
            match (id, name.as_deref()) {
                (None, None) => apps.any = true,
                (Some(id), None) => drop(apps.ids.insert(*id)),
                (None, Some(name)) => drop(apps.names.insert(name.into())),
                (Some(id), Some(name)) => apps.named_ids.entry(*id).or_default().push(name.into()),
            }
        }
        apps
    }

    fn contain(&self, id: Option<Uuid>, name: Option<&str>) -> bool {
        let has_id = id.is_some_and(|id| self.ids.contains(&id));
        let has_name = name.is_some_and(|name| self.names.contains(name));
        let has_both = || {
            let (Some(id), Some(name)) = (id, name) else { return false };
            self.named_ids.get(&id).is_some_and(|names| names.iter().any(|known| **known == *name))
        };
        self.any || has_id || has_name || has_both()
    }
}

/// A [`Choice`] to look up bytes in.
#[derive(Debug)]
struct Texts {
    listed: Set<Box<[u8]>>,
    /// Whether what is listed is wanted, or what is not.
    wanted: bool,
}

impl Texts {
    fn new(choice: &Choice) -> Self {
        let (texts, wanted) = match choice {
            Choice::AllBut(texts) => (texts, false),
            Choice::Only(texts) => (texts, true),
        };
        Self { listed: texts.iter().map(|text| text.as_bytes().into()).collect(), wanted }
    }

    fn want(&self, event: &Event<'_>, column: Column) -> bool {
        if self.listed.is_empty() {
            return !self.wanted;
        }
        self.listed.contains(event.raw(column)) == self.wanted
    }
}
