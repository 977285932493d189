//! DuckDB reads Parquet back: a reader that is not ours. Also runs other Python.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Runs a query in `directory`; gives the rows as JSON arrays.
pub fn duckdb(directory: &Path, query: &str) -> Vec<Value> {
    const SCRIPT: &str = "import duckdb, json, sys\n\
        duckdb.sql(\"set TimeZone = 'UTC'\")\n\
        for row in duckdb.sql(sys.argv[1]).fetchall():\n    \
        print(json.dumps(row, default=str))";
    let text = python(directory, SCRIPT, &[query]);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Runs a script in `directory`, which must succeed; gives its output.
pub fn python(directory: &Path, script: &str, arguments: &[&str]) -> String {
    let output = Command::new("python3")
        .arg("-c")
        .arg(script)
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("these tests need Python 3 and what tests/run installs for it");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{arguments:?}\n{errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}
