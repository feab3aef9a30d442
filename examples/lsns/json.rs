//! Rows as JSON, laid out as lsns(8) does.

use std::fmt::Write as _;

use super::args::Args;
use super::columns::Column;
use super::rows::Row;

pub(crate) fn print(args: &Args, rows: &[Row]) -> String {
    let mut text = "{\n   \"namespaces\": [\n".to_owned();
    objects(&mut text, args, rows, 6);
    text += "   ]\n}\n";
    text
}

fn objects(text: &mut String, args: &Args, rows: &[Row], indent: usize) {
    for (index, row) in rows.iter().enumerate() {
        let is_last = index + 1 == rows.len();
        if index == 0 {
            let _ = write!(text, "{:indent$}", "");
        }
        *text += "{\n";
        let inner = indent + 3;
        let fields = args.columns.iter().map(|&column| {
            let name = column.name().to_lowercase();
            format!("{:inner$}\"{name}\": {}", "", value(args, row, column))
        });
        *text += &fields.collect::<Vec<_>>().join(",\n");
        if !row.below.is_empty() {
            let _ = writeln!(text, ",\n{:inner$}\"children\": [", "");
            objects(text, args, &row.below, inner + 3);
            let _ = write!(text, "{:inner$}]", "");
        }
        let _ = write!(text, "\n{:indent$}}}", "");
        *text += if is_last { "\n" } else { "," };
    }
}

fn value(args: &Args, row: &Row, column: Column) -> String {
    let text = row.cell(column);
    if text.is_empty() {
        return "null".to_owned();
    }
    if column.is_number() {
        return text.to_owned();
    }
    let text = match args.wrap {
        true => text.to_owned(),
        false => text.replace('\n', ","),
    };
    quoted(&text)
}

fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for char in text.chars() {
        match char {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\t' => quoted += "\\t",
            '\r' => quoted += "\\r",
            char if char.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(char));
            }
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}
