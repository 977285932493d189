//! `logEvents.enginePerformanceMonitor.monitorFilter`: which performance events are wanted. An event is,
//! when one of the two filters accepts it.

use super::{
    setting::{IfGiven, Rule, section, switched},
    values::ObjectId,
};

section! {
    /// The two filters. A file may write `[]` for either (difference 31).
    pub struct MonitorFilter {
        /// The same for all apps.
        all_apps: AllApps = AllApps::default();
        /// Each app its own.
        app_specific: AppSpecific = AppSpecific::default();
    }
}

section! {
    /// A filter for all apps.
    pub struct AllApps {
        /// Uses the filter.
        enable: bool = false;
        /// Apps whose events are not wanted.
        app_exclude: Vec<AppSelector> = Vec::new();
        /// Which types of objects.
        object_type: ObjectTypes = ObjectTypes::default();
        /// Which methods.
        method: Methods = Methods::default();
    }
}

section! {
    /// Filters for some apps.
    pub struct AppSpecific {
        /// Uses the filters.
        enable: bool = false;
        /// Filters; the first that accepts an event decides.
        app: Vec<AppFilter> = Vec::new();
    }
}

section! {
    /// A filter for some apps.
    pub struct AppFilter {
        /// The apps; none match when it is empty.
        include: Vec<AppSelector> = Vec::new();
        /// Which types of objects.
        object_type: ObjectTypes = ObjectTypes::default();
        /// Which objects.
        app_object: AppObjects = AppObjects::default();
        /// Which methods.
        method: Methods = Methods::default();
    }
}

/// A wrong one would never match, in silence.
const APP_ID: Rule<str> = Rule {
    allows: |text| uuid::Uuid::try_parse(text).is_ok(),
    otherwise: "is not the id of an app",
    wanted: "a GUID such as `5b817efe-472d-43ce-8a31-6cce34af7de9`",
};

section! {
    /// An app, by id, by name, or by both, which then both have to match. `{}` is any app.
    pub struct AppSelector {
        /// Id of the app.
        app_id: Option<String> = None => IfGiven(APP_ID);
        /// Name of the app, case included; needs `appNames`.
        app_name: Option<String> = None;
    }
}

section! {
    /// Which types of objects are wanted.
    pub struct ObjectTypes {
        /// All but `allObjectTypesExclude`, or only `someObjectTypesInclude`.
        all_object_types: bool = true;
        /// Types that are not wanted.
        all_object_types_exclude: Vec<String> = Vec::new();
        /// Types that are.
        some_object_types_include: Vec<String> = Vec::new();
    }
}

section! {
    /// Which objects of an app are wanted.
    pub struct AppObjects {
        /// All but `allAppObjectsExclude`, or only `someAppObjectsInclude`.
        all_app_objects: bool = true;
        /// Objects that are not wanted.
        all_app_objects_exclude: Vec<ObjectId> = Vec::new();
        /// Objects that are.
        some_app_objects_include: Vec<ObjectId> = Vec::new();
    }
}

section! {
    /// Which methods of the engine are wanted.
    pub struct Methods {
        /// All but `allMethodsExclude`, or only `someMethodsInclude`.
        all_methods: bool = true;
        /// Methods that are not wanted, such as `Global::OpenApp`.
        all_methods_exclude: Vec<String> = Vec::new();
        /// Methods that are.
        some_methods_include: Vec<String> = Vec::new();
    }
}

switched!(AllApps, AppSpecific);
