//! Times as text, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

use super::number::decimal;

/// A compiled `strftime` format. Supported: `%Y %m %d %e %j %H %M %S %T %F %b %a %z %Z %s %%`, fractions of the second
/// as `%f` (nanoseconds) and `%1f` to `%9f`, and `%E3S`-like seconds with a fraction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormat(Box<[Piece]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    Year,
    Month,
    MonthName,
    Day,
    DayPadded,
    DayOfYear,
    Weekday,
    Hour,
    Minute,
    Second,
    /// This many digits of the second's fraction.
    Fraction(usize),
    EpochSeconds,
}

const DEFAULT: &str = "%Y-%m-%dT%H:%M:%E3SZ";
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const SECONDS_PER_DAY: u64 = 86_400;

impl TimeFormat {
    /// Compiles `format`; empty means Envoy's default, `2018-03-30T16:00:00.000Z`.
    ///
    /// # Errors
    /// If a conversion is not supported. The error names it.
    pub(super) fn parse(format: &str) -> Result<Self, String> {
        let mut rest = if format.is_empty() { DEFAULT } else { format };
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let Some(conversion) = rest.strip_prefix('%') else {
                let (literal, after) = rest.split_at(rest.find('%').unwrap_or(rest.len()));
                pieces.push(Piece::Literal(literal.into()));
                rest = after;
                continue;
            };
            let unsupported =
                || format!("time conversion %{} is not supported", conversion.chars().next().unwrap_or(' '));
            let length =
                conversion.find(|c: char| c.is_ascii_alphabetic() && c != 'E' || c == '%').ok_or_else(unsupported)?;
            let (conversion, after) = conversion.split_at(length + 1);
            pieces.extend(
                pieces_of(conversion).ok_or_else(|| format!("time conversion %{conversion} is not supported"))?,
            );
            rest = after;
        }
        Ok(Self(pieces.into()))
    }

    /// Appends `time` to `out`. Times before 1970 are written as 1970-01-01T00:00:00.
    pub(crate) fn write(&self, time: SystemTime, out: &mut Vec<u8>) {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since_epoch.as_secs() / SECONDS_PER_DAY, since_epoch.as_secs() % SECONDS_PER_DAY);
        let date = Date::of(days);
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Year => decimal(date.year, 4, out),
                Piece::Month => decimal(date.month as u64, 2, out),
                Piece::MonthName => out.extend_from_slice(MONTHS[date.month - 1].as_bytes()),
                Piece::Day => decimal(date.day, 2, out),
                Piece::DayPadded => {
                    out.extend_from_slice(if date.day < 10 { b" " } else { b"" });
                    decimal(date.day, 1, out);
                }
                Piece::DayOfYear => decimal(date.day_of_year, 3, out),
                Piece::Weekday => out.extend_from_slice(WEEKDAYS[date.weekday].as_bytes()),
                Piece::Hour => decimal(second / 3600, 2, out),
                Piece::Minute => decimal(second / 60 % 60, 2, out),
                Piece::Second => decimal(second % 60, 2, out),
                Piece::Fraction(digits) => {
                    let start = out.len();
                    decimal(since_epoch.subsec_nanos().into(), 9, out);
                    out.truncate(start + digits);
                }
                Piece::EpochSeconds => decimal(since_epoch.as_secs(), 1, out),
            }
        }
    }
}

fn pieces_of(conversion: &str) -> Option<Vec<Piece>> {
    let colon = || Piece::Literal(":".into());
    let dash = || Piece::Literal("-".into());
    let point = || Piece::Literal(".".into());
    Some(match conversion {
        "Y" => vec![Piece::Year],
        "m" => vec![Piece::Month],
        "b" | "h" => vec![Piece::MonthName],
        "d" => vec![Piece::Day],
        "e" => vec![Piece::DayPadded],
        "j" => vec![Piece::DayOfYear],
        "a" => vec![Piece::Weekday],
        "H" => vec![Piece::Hour],
        "M" => vec![Piece::Minute],
        "S" => vec![Piece::Second],
        "T" => vec![Piece::Hour, colon(), Piece::Minute, colon(), Piece::Second],
        "F" => vec![Piece::Year, dash(), Piece::Month, dash(), Piece::Day],
        "z" => vec![Piece::Literal("+0000".into())],
        "Z" => vec![Piece::Literal("UTC".into())],
        "s" => vec![Piece::EpochSeconds],
        "%" => vec![Piece::Literal("%".into())],
        "f" => vec![Piece::Fraction(9)],
        other => match other.as_bytes() {
            [digit @ b'1'..=b'9', b'f'] => vec![Piece::Fraction(usize::from(digit - b'0'))],
            [b'E', digit @ b'1'..=b'9', b'S'] => {
                vec![Piece::Second, point(), Piece::Fraction(usize::from(digit - b'0'))]
            }
            _ => return None,
        },
    })
}

struct Date {
    year: u64,
    /// 1 to 12.
    month: usize,
    day: u64,
    day_of_year: u64,
    /// 0 = Sunday.
    weekday: usize,
}

impl Date {
    /// The Gregorian date `days` after 1970-01-01.
    fn of(days: u64) -> Self {
        let weekday = ((days + 4) % 7) as usize;
        // The calendar repeats every 400 years. Years begin in March here, so that the leap day is the last day.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_shifted_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_shifted_year + 2) / 153;
        let day = day_of_shifted_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let leap = u64::from(year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400));
        let before_month = [
            0,
            31,
            59 + leap,
            90 + leap,
            120 + leap,
            151 + leap,
            181 + leap,
            212 + leap,
            243 + leap,
            273 + leap,
            304 + leap,
            334 + leap,
        ];
        let month = usize::try_from(month).expect("a month is at most 12");
        Self { year, month, day, day_of_year: before_month[month - 1] + day, weekday }
    }
}
