//! Rows as columns, until there are enough of them for a row group.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::ColumnPath;

use super::record::Row;
use super::schema::{RECEIVED, RECEIVED_NS, Schema, Type};
use crate::event::{Kind, TimeText};

/// How files are written: zstd, dictionaries where they pay, the pages and encodings that every reader
/// knows.
pub(super) fn properties() -> WriterPropertiesPtr {
    static PROPERTIES: LazyLock<WriterPropertiesPtr> = LazyLock::new(|| {
        let mut builder = WriterProperties::builder()
            .set_created_by(concat!("ringside ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_dictionary_enabled(true);
        // No two are the same.
        for name in [RECEIVED, RECEIVED_NS] {
            builder = builder.set_column_dictionary_enabled(ColumnPath::from(name), false);
        }
        Arc::new(builder.build())
    });
    Arc::clone(&PROPERTIES)
}

/// Values of one column, without those that are missing.
#[derive(Debug)]
enum Values {
    /// One behind the other, and where each ends.
    Text(Vec<u8>, Vec<usize>),
    Int(Vec<i64>),
    Float(Vec<f64>),
}

/// One column.
#[derive(Debug)]
struct Column {
    kind: Type,
    values: Values,
    /// Per row: 1 where there is a value.
    present: Vec<i16>,
}

impl Column {
    fn new(kind: Type) -> Self {
        let values = match kind {
            Type::Text => Values::Text(Vec::new(), Vec::new()),
            Type::Int | Type::Moment | Type::Local => Values::Int(Vec::new()),
            Type::Float => Values::Float(Vec::new()),
        };
        Self { kind, values, present: Vec::new() }
    }

    /// Adds a row's value. False if there is one that this type cannot hold: then it is missing.
    fn push(&mut self, text: Option<&str>) -> bool {
        let added = text.map(|text| self.add(text));
        self.present.push(i16::from(added == Some(true)));
        added != Some(false)
    }

    fn add(&mut self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let time = |moment: fn(&TimeText) -> Option<i64>| {
            TimeText::read(bytes).as_ref().and_then(moment).map(|ms| ms * 1000)
        };
        match (&mut self.values, self.kind) {
            (Values::Text(all, ends), _) => {
                all.extend_from_slice(bytes);
                ends.push(all.len());
                true
            }
            (Values::Float(all), _) => pushed(all, lexical_core::parse(bytes).ok()),
            (Values::Int(all), Type::Moment) => pushed(all, time(TimeText::moment_ms)),
            (Values::Int(all), Type::Local) => pushed(all, time(|time| Some(time.shown_ms()))),
            (Values::Int(all), _) => pushed(all, lexical_core::parse(bytes).ok()),
        }
    }

    /// Writes all rows as a column of a row group.
    fn write(self, mut to: SerializedColumnWriter<'_>) -> Result<()> {
        let present = Some(&self.present[..]);
        match self.values {
            Values::Text(bytes, ends) => {
                let bytes = Bytes::from(bytes);
                let mut start = 0;
                let value =
                    |end| ByteArray::from(bytes.slice(std::mem::replace(&mut start, end)..end));
                let values: Vec<ByteArray> = ends.into_iter().map(value).collect();
                to.typed::<ByteArrayType>().write_batch(&values, present, None)?;
            }
            Values::Int(values) => {
                to.typed::<Int64Type>().write_batch(&values, present, None)?;
            }
            Values::Float(values) => {
                to.typed::<DoubleType>().write_batch(&values, present, None)?;
            }
        }
        to.close()
    }
}

fn pushed<T>(all: &mut Vec<T>, value: Option<T>) -> bool {
    let is_some = value.is_some();
    all.extend(value);
    is_some
}

/// Rows of one kind.
#[derive(Debug)]
pub(super) struct Columns {
    kind: Kind,
    received_ns: Vec<i64>,
    /// The items of the schema, in its order.
    items: Vec<Column>,
    untyped: Column,
    bytes: usize,
}

impl Columns {
    pub fn new(kind: Kind) -> Self {
        let items = Schema::of(kind).items.iter();
        Self {
            kind,
            received_ns: Vec::new(),
            items: items.map(|(_, kind)| Column::new(*kind)).collect(),
            untyped: Column::new(Type::Text),
            bytes: 0,
        }
    }

    /// What the rows take in memory, more or less.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.received_ns.is_empty()
    }

    /// Adds a row; `length` is that of its line.
    pub fn push(&mut self, row: &Row<'_>, length: usize) {
        debug_assert_eq!(row.kind, self.kind);
        // Past 2262 the clock is certainly wrong.
        self.received_ns.push(i64::try_from(row.received_ns).unwrap_or(i64::MAX));
        let mut untyped: Option<String> = None;
        for ((item, _), column) in row.schema().items.iter().zip(&mut self.items) {
            let text = row.text(*item);
            if !column.push(text) {
                let all = untyped.get_or_insert_default();
                all.push(if all.is_empty() { '{' } else { ',' });
                // Writing to a `String` does not fail.
                let _ = write!(all, "\"{}\":{}", item.name(), serde_json::Value::from(text));
            }
        }
        self.untyped.push(untyped.map(|all| all + "}").as_deref());
        // A number per row and column says whether there is a value; one more is where it ends.
        self.bytes += length + self.items.len() * (size_of::<i16>() + size_of::<usize>());
    }

    /// Writes all rows as a row group and forgets them.
    pub fn write<W: io::Write + Send>(&mut self, file: &mut SerializedFileWriter<W>) -> Result<()> {
        let this = std::mem::replace(self, Self::new(self.kind));
        let mut group = file.next_row_group()?;
        let missing = || ParquetError::General("fewer columns than the schema has".into());
        for divisor in [1000, 1] {
            let values: Vec<i64> = this.received_ns.iter().map(|ns| ns / divisor).collect();
            let mut to = group.next_column()?.ok_or_else(missing)?;
            to.typed::<Int64Type>().write_batch(&values, None, None)?;
            to.close()?;
        }
        for column in this.items.into_iter().chain([this.untyped]) {
            column.write(group.next_column()?.ok_or_else(missing)?)?;
        }
        group.close()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    /// The rows of a file of these lines.
    fn written(kind: Kind, lines: &[&[u8]]) -> Vec<Vec<(String, Field)>> {
        let mut columns = Columns::new(kind);
        let mut bytes = Vec::new();
        let schema = Arc::clone(&Schema::of(kind).parquet);
        let mut file = SerializedFileWriter::new(&mut bytes, schema, properties()).unwrap();
        for line in lines {
            columns.push(&Row::read(line).unwrap(), line.len());
            assert!(columns.bytes() > line.len());
        }
        columns.write(&mut file).unwrap();
        assert!(columns.is_empty());
        file.close().unwrap();
        let reader = SerializedFileReader::new(Bytes::from(bytes)).unwrap();
        let rows = reader.get_row_iter(None).unwrap();
        rows.map(|row| {
            let row = row.unwrap();
            row.get_column_iter().map(|(name, field)| (name.clone(), field.clone())).collect()
        })
        .collect()
    }

    fn value<'a>(row: &'a [(String, Field)], name: &str) -> &'a Field {
        &row.iter().find(|(column, _)| column == name).unwrap().1
    }

    #[test]
    fn values_have_the_types_of_the_schema() {
        let line = b"1g1636465046028000001\x1f\x217\x1f\x2220211109T153726.028+0200\
            \x1f\x232021-11-09 15:37:26,028\x1f\x2e2021-11-09T15:37:26.029-0500\x1f\x3f1.5";
        let rows = written(Kind::QixPerf, &[line, b"1g5"]);
        let text = |text: &str| Field::Str(text.to_owned());
        for (name, wanted) in [
            ("received", Field::TimestampMicros(1_636_465_046_028_000)),
            ("received_ns", Field::Long(1_636_465_046_028_000_001)),
            ("source", text("qseow-qix-perf")),
            ("log_row", Field::Long(7)),
            ("ts_iso", Field::TimestampMicros(1_636_465_046_028_000)),
            ("ts_local", Field::TimestampMicros(1_636_472_246_028_000)),
            ("engine_ts", Field::TimestampMicros(1_636_490_246_029_000)),
            ("process_time", Field::Double(1.5)),
            ("work_time", Field::Null),
            ("untyped", Field::Null),
        ] {
            assert_eq!(*value(&rows[0], name), wanted, "{name}");
        }
        let missing = rows[1].iter().filter(|(_, value)| *value == Field::Null).count();
        assert_eq!(missing, rows[1].len() - 3, "all but two times and the source");
    }

    #[test]
    fn what_a_type_cannot_hold_is_kept_as_text() {
        let line =
            b"1g5\x1f\x22a \"day\"\x1f\x232021-11-09 15:37:26,028\x1f\x2e2021-11-09 15:37:26,028";
        let rows = written(Kind::QixPerf, &[line]);
        let Field::Str(untyped) = value(&rows[0], "untyped") else { panic!("{rows:?}") };
        let untyped: serde_json::Value = serde_json::from_str(untyped).unwrap();
        let wanted = serde_json::json!({
            "ts_iso": "a \"day\"", "engine_ts": "2021-11-09 15:37:26,028"
        });
        assert_eq!(untyped, wanted);
        assert_eq!(*value(&rows[0], "ts_iso"), Field::Null);
    }
}
