//! Filter expressions on the columns, as in scols-filter(5): `TYPE == "net" and NPROCS > 1`.

use std::cmp::Ordering;

use regex::Regex;

use super::columns::Column;

pub(crate) struct Filter(Expression);

enum Expression {
    Value(Value),
    Not(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Compare(Value, Comparison, Value),
    Matches(Value, Regex, bool),
}

enum Value {
    Column(Column),
    Number(f64),
    Text(String),
    Truth(bool),
}

#[derive(Clone, Copy)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Filter {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser {
            tokens: tokens(text)?,
            next: 0,
        };
        let expression = parser.or()?;
        match parser.peek() {
            None => Ok(Self(expression)),
            Some(token) => Err(format!("filter: unexpected {token:?} in {text:?}")),
        }
    }

    pub(crate) fn is_true<'a>(&self, cell: impl Fn(Column) -> &'a str) -> bool {
        self.0.is_true(&cell)
    }

    pub(crate) fn uses(&self, column: Column) -> bool {
        self.0.uses(column)
    }
}

impl Expression {
    fn is_true<'a>(&self, cell: &impl Fn(Column) -> &'a str) -> bool {
        match self {
            Self::Value(value) => value.is_true(cell),
            Self::Not(inner) => !inner.is_true(cell),
            Self::And(one, other) => one.is_true(cell) && other.is_true(cell),
            Self::Or(one, other) => one.is_true(cell) || other.is_true(cell),
            Self::Compare(one, comparison, other) => comparison.holds(one.compare(other, cell)),
            Self::Matches(value, regex, expected) => regex.is_match(&value.text(cell)) == *expected,
        }
    }

    fn uses(&self, column: Column) -> bool {
        let is_it = |value: &Value| matches!(value, Value::Column(used) if *used == column);
        match self {
            Self::Value(value) | Self::Matches(value, ..) => is_it(value),
            Self::Not(inner) => inner.uses(column),
            Self::And(one, other) | Self::Or(one, other) => one.uses(column) || other.uses(column),
            Self::Compare(one, _, other) => is_it(one) || is_it(other),
        }
    }
}

impl Value {
    fn text<'a>(&self, cell: &impl Fn(Column) -> &'a str) -> String {
        match self {
            Self::Column(column) => cell(*column).to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::Truth(truth) => truth.to_string(),
        }
    }

    fn number<'a>(&self, cell: &impl Fn(Column) -> &'a str) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Column(column) => cell(*column).parse().ok(),
            _ => None,
        }
    }

    /// A column is true if there is something in it, but for 0.
    fn is_true<'a>(&self, cell: &impl Fn(Column) -> &'a str) -> bool {
        match self {
            Self::Truth(truth) => *truth,
            other => !matches!(other.text(cell).as_str(), "" | "0" | "false"),
        }
    }

    /// Numbers by their value, anything else as text. With an empty cell no number compares.
    fn compare<'a>(&self, other: &Self, cell: &impl Fn(Column) -> &'a str) -> Option<Ordering> {
        match (self.number(cell), other.number(cell)) {
            (Some(one), Some(two)) => one.partial_cmp(&two),
            _ if matches!(self, Self::Number(_)) || matches!(other, Self::Number(_)) => None,
            _ => Some(self.text(cell).cmp(&other.text(cell))),
        }
    }
}

impl Comparison {
    fn holds(self, ordering: Option<Ordering>) -> bool {
        match (self, ordering) {
            (Self::Unequal, ordering) => ordering != Some(Ordering::Equal),
            (_, None) => false,
            (Self::Equal, Some(ordering)) => ordering.is_eq(),
            (Self::Less, Some(ordering)) => ordering.is_lt(),
            (Self::LessOrEqual, Some(ordering)) => ordering.is_le(),
            (Self::Greater, Some(ordering)) => ordering.is_gt(),
            (Self::GreaterOrEqual, Some(ordering)) => ordering.is_ge(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Sign(&'static str),
    Word(String),
    Text(String),
    Number(f64),
}

/// Longer ones before those that they begin with.
const SIGNS: [&str; 13] = [
    "&&", "||", "==", "!=", ">=", "<=", "=~", "!~", "!", "(", ")", ">", "<",
];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, tail) = if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            (Token::Sign(sign), &rest[sign.len()..])
        } else if matches!(first, '"' | '\'') {
            let inner = &rest[1..];
            let end = inner.find(first).ok_or("filter: a quote is not closed")?;
            (Token::Text(inner[..end].to_owned()), &inner[end + 1..])
        } else {
            let is_word = |char: char| char.is_ascii_alphanumeric() || "_.%:/-".contains(char);
            let end = rest.find(|char| !is_word(char)).unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            if word.is_empty() {
                return Err(format!("filter: unexpected {first:?}"));
            }
            (word_or_number(word)?, tail)
        };
        tokens.push(token);
        rest = tail.trim_start();
    }
    Ok(tokens)
}

fn word_or_number(word: &str) -> Result<Token, String> {
    if !word.starts_with(|char: char| char.is_ascii_digit()) {
        return Ok(Token::Word(word.to_owned()));
    }
    let wrong = || format!("filter: not a number: {word}");
    let plain = word.strip_suffix("iB").unwrap_or(word);
    let unit = plain.chars().last().and_then(|unit| "KMGTPEZY".find(unit));
    let (digits, factor) = match unit {
        Some(at) => {
            let power = i32::try_from(at + 1).map_err(|_| wrong())?;
            (&plain[..plain.len() - 1], 1024_f64.powi(power))
        }
        None => (word, 1.0),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    Ok(Token::Number(number * factor))
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self, sign: &str, word: &str) -> bool {
        let is_it = match self.peek() {
            Some(Token::Sign(found)) => *found == sign,
            Some(Token::Word(found)) => !word.is_empty() && found.eq_ignore_ascii_case(word),
            _ => false,
        };
        self.next += usize::from(is_it);
        is_it
    }

    fn or(&mut self) -> Result<Expression, String> {
        let mut left = self.and()?;
        while self.take("||", "or") {
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, String> {
        let mut left = self.not()?;
        while self.take("&&", "and") {
            left = Expression::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expression, String> {
        if self.take("!", "not") {
            return Ok(Expression::Not(Box::new(self.not()?)));
        }
        if self.take("(", "") {
            let inner = self.or()?;
            return match self.take(")", "") {
                true => Ok(inner),
                false => Err("filter: a parenthesis is not closed".to_owned()),
            };
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expression, String> {
        let left = self.value()?;
        for (sign, expected) in [("=~", true), ("!~", false)] {
            if self.take(sign, "") {
                let Value::Text(pattern) = self.value()? else {
                    return Err(format!("filter: {sign} needs a quoted pattern"));
                };
                let regex = Regex::new(&pattern);
                let regex = regex.map_err(|error| format!("filter: {error}"))?;
                return Ok(Expression::Matches(left, regex, expected));
            }
        }
        for (sign, word, comparison) in [
            ("==", "eq", Comparison::Equal),
            ("!=", "ne", Comparison::Unequal),
            (">=", "ge", Comparison::GreaterOrEqual),
            ("<=", "le", Comparison::LessOrEqual),
            (">", "gt", Comparison::Greater),
            ("<", "lt", Comparison::Less),
        ] {
            if self.take(sign, word) {
                return Ok(Expression::Compare(left, comparison, self.value()?));
            }
        }
        Ok(Expression::Value(left))
    }

    fn value(&mut self) -> Result<Value, String> {
        let token = self
            .peek()
            .cloned()
            .ok_or("filter: the expression ends too early")?;
        self.next += 1;
        match token {
            Token::Number(number) => Ok(Value::Number(number)),
            Token::Text(text) => Ok(Value::Text(text)),
            Token::Word(word) if word.eq_ignore_ascii_case("true") => Ok(Value::Truth(true)),
            Token::Word(word) if word.eq_ignore_ascii_case("false") => Ok(Value::Truth(false)),
            Token::Word(word) => {
                let column = Column::from_name(&word);
                column
                    .map(Value::Column)
                    .ok_or_else(|| format!("unknown column: {word}"))
            }
            Token::Sign(sign) => Err(format!("filter: unexpected {sign}")),
        }
    }
}
