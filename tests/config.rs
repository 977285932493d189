#[test]
fn explore() {
    for i in 0..60 {
        let Ok(t) = std::fs::read_to_string(format!("/tmp/cs/{i:02}.yaml")) else { break };
        println!("=== {i}\n{t}---");
        match ringside::config::parse(&t, "f.yaml") {
            Ok(l) => {
                for w in l.warnings {
                    println!("W {w}")
                }
            }
            Err(ringside::config::ConfigError::Invalid { problems, warnings }) => {
                for p in problems {
                    println!("E {p}");
                }
                for w in warnings {
                    println!("W {w}");
                }
            }
            Err(e) => println!("{e}"),
        }
    }
}
