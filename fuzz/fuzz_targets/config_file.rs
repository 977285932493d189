//! Any text as a configuration file: no panic, and every complaint can be shown. What was accepted
//! can be written and is then accepted again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside::config;

fuzz_target!(|text: &str| {
    match config::parse(text, "fuzz.yaml") {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(loaded) => {
            let written = loaded.config.to_yaml();
            if let Err(error) = config::parse(&written, "written.yaml") {
                panic!("accepted, and refused when written: {error}\n{written}");
            }
        }
    }
});
