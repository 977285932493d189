//! Which user events are wanted.

use crate::support::Ringside;
use crate::{TO_FILE, events_of, file, sorted, user_event};

#[test]
fn users_are_excluded_whose_directory_and_id_are_both_in_the_file() {
    let user = "    excludeUser:
      - { directory: LAB, userId: anna }
      - { directory: OTHER, userId: bert }";
    let mut ringside = Ringside::start_with(&file(user, "", TO_FILE), &[]);
    let events = ["anna", "bert", "carl"].map(|user| user_event("Start session", user));
    let delivered = events_of(&mut ringside, &events, &[]);
    assert_eq!(sorted(&delivered, "user_id"), ["bert", "carl"]);
}
