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
use hashbrown::HashMap;
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

/// The filters, ready for looking up: an event asks once for its app, its method and so on, and learns
/// which of the filters want it.
#[derive(Debug)]
pub(super) struct Monitor(Vec<Group>);

/// A set of the filters of a [`Group`], one bit each.
type Filters = u64;

/// As many filters as fit into the bits of [`Filters`].
#[derive(Debug, Default)]
struct Group {
    apps: Apps,
    methods: Texts,
    object_types: Texts,
    objects: Texts,
}

impl Monitor {
    pub fn new(filter: &MonitorFilter) -> Self {
        let count = usize::from(filter.all_apps.is_some()) + filter.app_specific.len();
        let mut groups = Vec::new();
        groups.resize_with(count.div_ceil(Filters::BITS as usize), Group::default);
        let mut bits = (0..count)
            .map(|index| (index / Filters::BITS as usize, 1 << (index % Filters::BITS as usize)));
        let every_object = Choice::AllBut(Vec::new());
        for (all, (group, bit)) in filter.all_apps.iter().zip(&mut bits) {
            let group: &mut Group = &mut groups[group];
            group.apps.add(bit, &all.exclude, false);
            group.methods.add(bit, &all.methods);
            group.object_types.add(bit, &all.object_types);
            group.objects.add(bit, &every_object);
        }
        for (some, (group, bit)) in filter.app_specific.iter().zip(bits) {
            let group = &mut groups[group];
            group.apps.add(bit, &some.include, true);
            group.methods.add(bit, &some.methods);
            group.object_types.add(bit, &some.object_types);
            group.objects.add(bit, &some.objects);
        }
        Self(groups)
    }

    /// Whether one of the filters accepts the event.
    pub fn accepts(&self, event: &Event<'_>, app_name: Option<&str>) -> bool {
        let app = event.uuid(Column::AppId);
        self.0.iter().any(|group| {
            let texts = [
                (&group.methods, Column::Method),
                (&group.object_types, Column::ObjectType),
                (&group.objects, Column::ObjectId),
            ];
            let of_app = group.apps.wanted_by(app, app_name);
            let accepted_by = texts.into_iter().fold(of_app, |filters, (texts, column)| {
                // Nobody asks on what no filter is left for.
                if filters == 0 { 0 } else { filters & texts.wanted_by(event, column) }
            });
            accepted_by != 0
        })
    }
}

type Map<K> = HashMap<K, Filters, RandomState>;

/// The apps that filters list, by id, by name and by both.
#[derive(Debug, Default)]
struct Apps {
    any: Filters,
    ids: Map<Uuid>,
    names: Map<Box<str>>,
    named_ids: HashMap<Uuid, Vec<(Box<str>, Filters)>, RandomState>,
    /// The filters that want what they do not list.
    all_but: Filters,
}

impl Apps {
    fn add(&mut self, filter: Filters, selectors: &[AppSelector], wanted: bool) {
        for AppSelector { id, name } in selectors {
            match (id, name.as_deref()) {
                (None, None) => self.any |= filter,
                (Some(id), None) => *self.ids.entry(*id).or_default() |= filter,
                (None, Some(name)) => *self.names.entry(name.into()).or_default() |= filter,
                (Some(id), Some(name)) => {
                    self.named_ids.entry(*id).or_default().push((name.into(), filter));
                }
            }
        }
        if !wanted {
            self.all_but |= filter;
        }
    }

    fn wanted_by(&self, id: Option<Uuid>, name: Option<&str>) -> Filters {
        let mut listed_by = self.any;
        if let Some(id) = &id {
            listed_by |= self.ids.get(id).unwrap_or(&0);
            if let (Some(name), Some(named)) = (name, self.named_ids.get(id)) {
                let same = named.iter().filter(|(known, _)| **known == *name);
                listed_by |= same.fold(0, |filters, (_, filter)| filters | filter);
            }
        }
        if let Some(name) = name {
            listed_by |= self.names.get(name).unwrap_or(&0);
        }
        listed_by ^ self.all_but
    }
}

/// The texts that filters list for one column.
#[derive(Debug, Default)]
struct Texts {
    listed: Map<Box<[u8]>>,
    /// The [`mark`]s of what is listed. Most texts have another, and need no look-up.
    marks: u64,
    /// The filters that want what they do not list.
    all_but: Filters,
}

impl Texts {
    fn add(&mut self, filter: Filters, choice: &Choice) {
        let texts = match choice {
            Choice::AllBut(texts) => {
                self.all_but |= filter;
                texts
            }
            Choice::Only(texts) => texts,
        };
        for text in texts {
            self.marks |= mark(text.as_bytes());
            *self.listed.entry(text.as_bytes().into()).or_default() |= filter;
        }
    }

    fn wanted_by(&self, event: &Event<'_>, column: Column) -> Filters {
        if self.marks == 0 {
            return self.all_but;
        }
        let text = event.raw(column);
        if self.marks & mark(text) == 0 {
            return self.all_but;
        }
        self.listed.get(text).unwrap_or(&0) ^ self.all_but
    }
}

/// One bit of 64 for a text, from what is at hand without a look at all of it.
fn mark(text: &[u8]) -> u64 {
    let (Some(first), Some(last)) = (text.first(), text.last()) else { return 1 };
    let (length, first, last) = (text.len(), usize::from(*first), usize::from(*last));
    1 << (length.wrapping_add(first.wrapping_mul(5)).wrapping_add(last.wrapping_mul(11)) % 64)
}
