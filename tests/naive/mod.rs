//! The parser again, as plainly as it can be written: copies everything, goes over the text once per
//! question, and knows nothing of the real one's tables. Tests and fuzz targets hold the two equal.

use ringside::event::{self, Field, Int, Listener, PADDING, ParseError, Payload};

/// What a column holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Uuid(Option<String>),
    /// As JavaScript has it: a double.
    Int(f64),
    /// `None` is NaN, so that values can be compared.
    Float(Option<f64>),
}

/// An event that owns its columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub kind: String,
    pub short: bool,
    pub surplus: bool,
    pub ambiguous: bool,
    pub invalid_utf8: bool,
    pub columns: Vec<(String, Value)>,
    pub user_full: String,
    pub activity_is_user: bool,
    pub context_app_id: Option<String>,
}

/// Panics when the real parser and the naive one disagree about a datagram, with nothing behind it
/// and with what must not count.
pub fn assert_agree(listener: Listener, payload: &[u8]) {
    let naive = parse(listener, payload);
    let behind = b"7.5;E7AF59A0;\n\xFF0".iter().cycle().take(PADDING);
    let in_slot: Vec<u8> = payload.iter().chain(behind).copied().collect();
    for given in [Payload::from(payload), Payload::new(&in_slot, payload.len())] {
        let mut scratch = b"what an earlier datagram left".to_vec();
        let real = event::parse(listener, given, &mut scratch).map(|event| owned(&event));
        assert_eq!(real, naive, "{:?}", String::from_utf8_lossy(payload));
    }
}

fn owned(event: &event::Event<'_>) -> Event {
    let value = |field| match field {
        Field::Text(text) => Value::Text(text.to_owned()),
        Field::Uuid(uuid) => Value::Uuid(uuid.map(|uuid| uuid.to_string())),
        Field::Int(Int::Value(value)) => Value::Int(value as f64),
        Field::Int(Int::Huge(value)) => Value::Int(value),
        Field::Float(value) => Value::Float((!value.is_nan()).then_some(value)),
    };
    Event {
        kind: event.kind().name().to_owned(),
        short: event.flags.short,
        surplus: event.flags.surplus,
        ambiguous: event.flags.ambiguous,
        invalid_utf8: event.flags.invalid_utf8,
        columns: event
            .columns()
            .map(|(column, field)| (column.name().to_owned(), value(field)))
            .collect(),
        user_full: event.user_full().map_or(String::new(), |full| full.to_string()),
        activity_is_user: event.activity_is_user(),
        context_app_id: event.context_app_id().map(|app| app.to_string()),
    }
}

/// Reads a datagram, the plain way.
pub fn parse(listener: Listener, payload: &[u8]) -> Result<Event, ParseError> {
    if payload.is_empty() {
        return Err(ParseError::Empty);
    }
    let text = String::from_utf8_lossy(payload).into_owned();
    let mut pieces: Vec<String> = text.split(';').map(str::to_owned).collect();
    let kind = kind_of(listener, &pieces[0])?;
    let layout = layout(kind);

    let short = pieces.len() < layout.len();
    let mut surplus = pieces.len() > layout.len();
    let mut ambiguous = false;
    if listener == Listener::UserEvents {
        if surplus {
            let message = pieces.split_off(7).join(";");
            pieces.push(message);
        }
        surplus = false;
    } else if surplus && kind == "qseow-qix-perf" {
        pieces.truncate(layout.len());
    } else if surplus {
        (pieces, ambiguous) = settle_surplus(kind, &layout, &pieces);
    }
    pieces.resize(layout.len(), String::new());

    let mut columns: Vec<(String, Value)> = layout
        .iter()
        .zip(&pieces)
        .map(|((name, rule), piece)| ((*name).to_owned(), value(kind, rule, piece)))
        .collect();
    let user_full = settle_user(kind, &mut columns);
    Ok(Event {
        kind: kind.to_owned(),
        short,
        surplus,
        ambiguous,
        invalid_utf8: std::str::from_utf8(payload).is_err(),
        user_full,
        activity_is_user: !(kind == "qseow-qix-perf" && pieces[8] == "0"),
        context_app_id: match listener {
            Listener::UserEvents => context_app_id(&text_of(&columns, "context")),
            Listener::LogEvents => None,
        },
        columns,
    })
}

fn kind_of(listener: Listener, source: &str) -> Result<&'static str, ParseError> {
    let lower = source.to_ascii_lowercase();
    let found = match listener {
        Listener::UserEvents => {
            ["qseow-proxy-session", "qseow-proxy-connection"].into_iter().find(|name| {
                lower == *name
                    || lower == format!("/{name}")
                    || lower == format!("{name}/")
                    || lower == format!("/{name}/")
            })
        }
        Listener::LogEvents => {
            ["qseow-engine", "qseow-proxy", "qseow-repository", "qseow-scheduler", "qseow-qix-perf"]
                .into_iter()
                .find(|name| lower == format!("/{name}/"))
        }
    };
    match found {
        Some(name) => Ok(name),
        None if source.contains('\0') => Err(ParseError::Malformed),
        None => Err(ParseError::UnknownType),
    }
}

/// A column's rule, in a small language of its own: `text N`, `time`, `uuid`, `int MIN FALLBACK`
/// (`any` for no minimum), `float`.
fn layout(kind: &str) -> Vec<(&'static str, &'static str)> {
    let user = "source=source host=text,100 command=text,100 user_directory=text,100 \
        user_id=text,100 origin=text,200 context=text,500 message=text,1000";
    let log = "ts_iso=time ts_local=time level=text,20 host=text,100 subsystem=text,200 \
        windows_user=text,100 message=text,1000";
    let proxy = "exception_message=text,1000 user_directory=text,100 user_id=text,100 \
        command=text,200 result_code=text,50 origin=text,200 context=text,200";
    let engine = "proxy_session_id=uuid user_directory=text,100 user_id=text,100 \
        engine_ts=text,50 process_id=uuid engine_exe_version=text,50 server_started=text,50 \
        entry_type=text,50 session_id=uuid app_id=uuid";
    let scheduler = "exception_message=text,1000 user_directory=text,100 user_id=text,100 \
        user_full=text,200 task_name=text,200 app_name=text,200 task_id=uuid app_id=uuid \
        execution_id=uuid";
    let perf = "ts_iso=text,50 ts_local=text,50 level=text,20 host=text,100 subsystem=text,200 \
        windows_user=text,100 proxy_session_id=uuid user_directory=text,100 user_id=text,100 \
        engine_ts=text,50 session_id=uuid app_id=uuid request_id=int,0,-99 method=text,100 \
        process_time=float work_time=float lock_time=float validate_time=float \
        traverse_time=float handle=int,any,-99 object_id=text,100 net_ram=int,0,-1 \
        peak_ram=int,0,-1 object_type=text,100";
    let head = "source=source log_row=int,any,-1";
    let parts: Vec<&'static str> = match kind {
        "qseow-engine" => vec!["source=source log_row=int,1,-1", log, engine],
        "qseow-proxy" | "qseow-repository" => vec![head, log, proxy],
        "qseow-scheduler" => vec![head, log, scheduler],
        "qseow-qix-perf" => vec![head, perf],
        _ => vec![user],
    };
    let words = parts.into_iter().flat_map(str::split_whitespace);
    words.map(|word| word.split_once('=').unwrap()).collect()
}

fn value(kind: &str, rule: &str, piece: &str) -> Value {
    let rule: Vec<&str> = rule.split(',').collect();
    match rule[..] {
        ["source"] => Value::Text(kind.to_owned()),
        ["text", limit] => Value::Text(clean(piece).chars().take(limit.parse().unwrap()).collect()),
        ["time"] => Value::Text(if is_time(piece) { piece.to_owned() } else { String::new() }),
        ["uuid"] => Value::Uuid(is_uuid(piece).then(|| piece.to_lowercase())),
        ["int", min, fallback] => {
            let min = if min == "any" { f64::NEG_INFINITY } else { min.parse().unwrap() };
            let fallback = fallback.parse().unwrap();
            Value::Int(parse_int(piece).filter(|value| *value >= min).unwrap_or(fallback))
        }
        ["float"] => Value::Float(parse_float(piece)),
        _ => unreachable!(),
    }
}

fn clean(piece: &str) -> String {
    let text: String = piece.chars().filter(|c| !c.is_ascii_control()).collect();
    if text == "(null)" { String::new() } else { text }
}

/// The pieces that go with the columns, and whether there was more than one way to match them.
fn settle_surplus(kind: &str, layout: &[(&str, &str)], pieces: &[String]) -> (Vec<String>, bool) {
    let extra = pieces.len() - layout.len();
    let joined_at = |column: usize| {
        let mut fields = pieces[..column].to_vec();
        fields.push(pieces[column..=column + extra].join(";"));
        fields.extend_from_slice(&pieces[column + extra + 1..]);
        fields
    };
    let message = joined_at(8);
    let mut ways = vec![pieces[..layout.len()].to_vec(), message.clone()];
    if kind == "qseow-scheduler" {
        ways.extend([9, 13, 14].map(joined_at));
    }
    let fits = |fields: &Vec<String>| {
        layout.iter().zip(fields).skip(8).all(|((name, rule), field)| {
            let nothing = field.is_empty() || field == "(null)";
            let nobody = *name == "proxy_session_id" && field == "0";
            nothing
                || nobody
                || match (*rule, *name) {
                    ("uuid", _) => is_uuid(field),
                    (_, "user_full") => field.contains('\\'),
                    _ => true,
                }
        })
    };
    let message_fits = fits(&message);
    ways.retain(fits);
    let ambiguous = ways.len() > 1;
    if message_fits || ways.is_empty() { (message, ambiguous) } else { (ways.remove(0), ambiguous) }
}

fn text_of(columns: &[(String, Value)], name: &str) -> String {
    match columns.iter().find(|(column, _)| column == name) {
        Some((_, Value::Text(text))) => text.clone(),
        _ => String::new(),
    }
}

/// Makes directory, id and full name agree, and says what the full name is.
fn settle_user(kind: &str, columns: &mut [(String, Value)]) -> String {
    let directory = text_of(columns, "user_directory");
    let id = text_of(columns, "user_id");
    let whole = text_of(columns, "user_full");
    let alone = directory.is_empty() && id.is_empty() && whole.contains('\\');
    let mut set = |name: &str, text: &str| {
        for (column, value) in columns.iter_mut() {
            if column == name {
                *value = Value::Text(text.to_owned());
            }
        }
    };
    if alone {
        let parts: Vec<&str> = whole.split('\\').collect();
        set("user_directory", parts[0]);
        set("user_id", parts[1]);
        return whole;
    }
    if kind == "qseow-scheduler" {
        set("user_full", "");
    }
    if directory.is_empty() || id.is_empty() { String::new() } else { format!("{directory}\\{id}") }
}

fn context_app_id(context: &str) -> Option<String> {
    let chars: Vec<char> = context.chars().collect();
    let start = ["/app/", "app/"].into_iter().find(|prefix| context.starts_with(prefix))?.len();
    let guid: String = chars[start..].iter().take(36).collect::<String>().to_lowercase();
    let nil_or_max =
        guid.chars().all(|c| c == '0' || c == '-') || guid.chars().all(|c| c == 'f' || c == '-');
    let digit = |at: usize| guid.chars().nth(at).unwrap_or(' ');
    let standard = "12345678".contains(digit(14)) && "89ab".contains(digit(19));
    (is_uuid(&guid) && (nil_or_max || standard)).then_some(guid)
}

fn is_uuid(text: &str) -> bool {
    text.chars().count() == 36
        && text.chars().enumerate().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}

fn is_time(text: &str) -> bool {
    let mut shapes = vec!["####-##-## ##:##:##,###".to_owned()];
    for clock in ["########T######.###", "####-##-##T##:##:##.###"] {
        for offset in ["Z", "+####", "-####", "+##:##", "-##:##"] {
            shapes.push(format!("{clock}{offset}"));
        }
    }
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
    if text.contains('#') || !shapes.contains(&shape) {
        return false;
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let number = |from: usize, to: usize| digits[from..to].parse::<u32>().unwrap();
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let february = if leap { 29 } else { 28 };
    let days = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let in_calendar = (1..=12).contains(&month) && day >= 1 && day <= days[month as usize - 1];
    let mut in_range = number(8, 10) <= 23 && number(10, 12) <= 59 && number(12, 14) <= 59;
    if shape.contains('+') || shape.rfind('-').is_some_and(|at| at > 10) {
        let offset = digits.len() - 4;
        in_range &= number(offset, offset + 2) <= 23 && number(offset + 2, offset + 4) <= 59;
    }
    in_calendar && in_range
}

fn trim_start(text: &str) -> &str {
    text.trim_start_matches(|c| {
        matches!(c, '\t' | '\n' | '\u{B}' | '\u{C}' | '\r' | ' ' | '\u{A0}' | '\u{FEFF}')
            || matches!(c, '\u{1680}' | '\u{2000}'..='\u{200A}' | '\u{2028}' | '\u{2029}')
            || matches!(c, '\u{202F}' | '\u{205F}' | '\u{3000}')
    })
}

fn parse_int(text: &str) -> Option<f64> {
    let text = trim_start(text);
    let (sign, digits) = match text.chars().next()? {
        '-' => (-1.0, &text[1..]),
        '+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    // Adding zero makes zero of minus zero.
    digits.parse::<f64>().ok().map(|value| sign * value + 0.0)
}

fn parse_float(text: &str) -> Option<f64> {
    let text = trim_start(text);
    let (sign, unsigned) = match text.chars().next()? {
        '-' => (-1.0, &text[1..]),
        '+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if unsigned.starts_with("Infinity") {
        return Some(sign * f64::INFINITY);
    }
    let plausible: String = unsigned
        .chars()
        .enumerate()
        .take_while(|(at, c)| {
            c.is_ascii_digit() || *c == '.' || (*at > 0 && matches!(*c, 'e' | 'E' | '+' | '-'))
        })
        .map(|(_, c)| c)
        .collect();
    (1..=plausible.len())
        .rev()
        .find_map(|len| plausible[..len].parse::<f64>().ok())
        .map(|f| sign * f)
}
