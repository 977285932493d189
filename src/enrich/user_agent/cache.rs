//! What was made of the texts seen last.
//!
//! Users keep their browser, so nearly all texts have been seen before: then one look-up of the
//! borrowed text is all it takes. A text that is not known yet is parsed and takes the place of one
//! that was not asked for lately (the clock algorithm). A sender of made-up texts therefore costs a
//! parse each, takes no more memory than the limits below, and pushes out none that is in use: what
//! was asked for since the hand last came by is spared, and what is new is not, until it is asked for
//! again.

use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{BROWSER_RULES, SYSTEM_RULES, UserAgent};
use crate::event::Event;

/// Texts remembered. The day's visitors of a public site with every kind of phone have some four
/// hundred; the users of a large cluster have fewer, on managed computers, and this leaves room for a
/// change of version everywhere. With [`TEXT_MAX`] this bounds the memory to 3 MiB, of which usual
/// texts, of 120 bytes, take a tenth.
const TEXTS_MAX: usize = 1024;

/// Only this many bytes of a text are looked at. Browsers send 100 to 250 and mobile apps, which name
/// the device too, up to 500.
const TEXT_MAX: usize = 1024;

/// Parses user agents, each once as long as it is remembered.
#[derive(Default)]
pub struct UserAgents {
    hasher: RandomState,
    /// Places of the texts.
    table: HashTable<usize>,
    places: Vec<Place>,
    /// The place that is looked at next when one is needed.
    hand: usize,
}

struct Place {
    text: Box<str>,
    agent: Option<UserAgent>,
    /// Asked for again since the hand came by.
    used: bool,
}

impl UserAgents {
    /// An empty cache, with the tables compiled, so that the first event does not wait for them.
    #[must_use]
    pub fn new() -> Self {
        LazyLock::force(&BROWSER_RULES);
        LazyLock::force(&SYSTEM_RULES);
        Self::default()
    }

    /// The browser behind a user event whose message has a user agent.
    pub fn of_event(&mut self, event: &Event<'_>) -> Option<&UserAgent> {
        self.get(event.user_agent()?)
    }

    /// What a user-agent text says, as [`UserAgent::parse`] reads it; `None` if it says nothing.
    ///
    /// Of texts over 1 KiB only the beginning counts. Does not allocate when the text is remembered.
    pub fn get(&mut self, text: &str) -> Option<&UserAgent> {
        let text = &text[..text.floor_char_boundary(TEXT_MAX)];
        let hash = self.hasher.hash_one(text);
        let known = self.table.find(hash, |&place| *self.places[place].text == *text).copied();
        let place = if let Some(place) = known {
            self.places[place].used = true;
            place
        } else {
            self.learn(hash, text)
        };
        self.places[place].agent.as_ref()
    }

    /// Parses a text and remembers it; returns its place.
    fn learn(&mut self, hash: u64, text: &str) -> usize {
        let new = Place { text: text.into(), agent: UserAgent::parse(text), used: false };
        let place = if self.places.len() < TEXTS_MAX {
            self.places.push(new);
            self.places.len() - 1
        } else {
            let place = self.make_room();
            self.places[place] = new;
            place
        };
        let (hasher, places) = (&self.hasher, &self.places);
        self.table.insert_unique(hash, place, |&place| hasher.hash_one(&*places[place].text));
        place
    }

    /// Forgets the first text from the hand on that was not used; returns its place.
    fn make_room(&mut self) -> usize {
        // Ends within one round, because the marks are taken away on the way.
        while std::mem::take(&mut self.places[self.hand].used) {
            self.advance();
        }
        let place = self.hand;
        self.advance();
        let hash = self.hasher.hash_one(&*self.places[place].text);
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == place) {
            entry.remove();
        }
        place
    }

    fn advance(&mut self) {
        self.hand = (self.hand + 1) % TEXTS_MAX;
    }
}

impl fmt::Debug for UserAgents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UserAgents")
            .field("remembered", &self.places.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROME: &str = "'Mozilla/5.0 (Windows NT 10.0) Chrome/124.0.0.0 Safari/537.36'";

    /// A text like no other.
    fn text(number: usize) -> String {
        format!("Firefox/{number}.0")
    }

    fn is_remembered(agents: &UserAgents, text: &str) -> bool {
        let hash = agents.hasher.hash_one(text);
        agents.table.find(hash, |&place| *agents.places[place].text == *text).is_some()
    }

    #[test]
    fn a_text_is_parsed_once() {
        let mut agents = UserAgents::new();
        let first: *const UserAgent = agents.get(CHROME).expect("known");
        let again: *const UserAgent = agents.get(CHROME).expect("known");
        assert_eq!(first, again);
        assert_eq!(agents.places.len(), 1);
    }

    #[test]
    fn that_a_text_says_nothing_is_remembered_too() {
        let mut agents = UserAgents::new();
        for _ in 0..2 {
            assert_eq!(agents.get("nothing"), None);
            assert_eq!(agents.get(""), None);
        }
        assert_eq!(agents.places.len(), 2);
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_makes_room() {
        let mut agents = UserAgents::new();
        for number in 0..TEXTS_MAX * 3 {
            let text = text(number);
            let major = agents.get(&text).map(|agent| agent.browser_major_version.to_string());
            assert_eq!(major, Some(number.to_string()));
            assert_eq!(agents.get(CHROME).map(|agent| &*agent.browser_name), Some("Chrome"));
        }
        assert_eq!((agents.places.len(), agents.table.len()), (TEXTS_MAX, TEXTS_MAX));
        assert!(is_remembered(&agents, CHROME));
        assert!(!is_remembered(&agents, &text(0)));
        assert!(is_remembered(&agents, &text(TEXTS_MAX * 3 - 1)));
        assert!(agents.places.iter().enumerate().all(|(place, remembered)| {
            let hash = agents.hasher.hash_one(&*remembered.text);
            agents.table.find(hash, |&other| other == place).is_some()
        }));
    }

    #[test]
    fn a_place_is_found_when_all_were_used() {
        let mut agents = UserAgents::new();
        for _ in 0..2 {
            for number in 0..TEXTS_MAX {
                agents.get(&text(number));
            }
        }
        assert!(agents.places.iter().all(|place| place.used));
        agents.get(CHROME);
        assert!(!is_remembered(&agents, &text(0)), "the hand started there");
        assert_eq!(agents.places.iter().filter(|place| place.used).count(), 0);
    }

    #[test]
    fn of_long_texts_only_the_beginning_counts() {
        let mut agents = UserAgents::new();
        let long = format!("{CHROME}{}", "é".repeat(TEXT_MAX));
        assert!(agents.get(&long).is_some());
        assert!(
            agents.get(&format!("{long} Edg/1.2")).is_some_and(|a| &*a.browser_name == "Chrome")
        );
        assert_eq!(agents.places.len(), 1);
        assert!(agents.places[0].text.len() <= TEXT_MAX);
    }
}
