//! Removes invalid entries from a parsed TOML document, so that the rest can be read.

use std::ops::Range;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Removes the entry whose key or value is at `span`, or the list that contains it. Returns false if there is
/// no such entry.
pub(super) fn leave_out(table: &mut DeTable<'_>, span: &Range<usize>) -> bool {
    let stands_there = |(key, value): &(&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
        key.span() == *span || value.span() == *span || has_item(value, span)
    };
    let found = table.iter().find(stands_there).map(|(key, _)| key.clone());
    match found {
        Some(key) => table.remove(&key).is_some(),
        None => table.iter_mut().any(|(_, value)| leave_out_below(value, span)),
    }
}

fn leave_out_below(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
    match value.get_mut() {
        DeValue::Table(table) => leave_out(table, span),
        DeValue::Array(items) => items.iter_mut().any(|item| leave_out_below(item, span)),
        _ => false,
    }
}

/// Returns whether a list has an item at `span`.
fn has_item(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
    let DeValue::Array(items) = value.get_ref() else { return false };
    items.iter().any(|item| item.span() == *span)
}
