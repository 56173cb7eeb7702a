//! Sets of sequence numbers as ascending, disjoint ranges.

use std::ops::Range;

/// The index of the range that contains `number`, or else of the first range above it.
pub(super) fn find_range(ranges: &[Range<u64>], number: u64) -> Result<usize, usize> {
    let at = ranges.partition_point(|range| range.end <= number);
    match ranges.get(at) {
        Some(range) if range.contains(&number) => Ok(at),
        _ => Err(at),
    }
}

/// Adds a number that no range contains; `at` is the index of the first range above the number.
///
/// Returns `false` if the number needs a range of its own and there are `ranges_max` already.
pub(super) fn insert_number(
    ranges: &mut Vec<Range<u64>>,
    at: usize,
    number: u64,
    ranges_max: usize,
) -> bool {
    let extends_previous = at > 0 && ranges[at - 1].end == number;
    let extends_next = ranges.get(at).is_some_and(|next| next.start == number + 1);
    match (extends_previous, extends_next) {
        (true, true) => {
            ranges[at - 1].end = ranges[at].end;
            ranges.remove(at);
        }
        (true, false) => ranges[at - 1].end = number + 1,
        (false, true) => ranges[at].start = number,
        (false, false) if ranges.len() < ranges_max => ranges.insert(at, number..number + 1),
        (false, false) => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_joins_the_ranges_on_both_sides() {
        let mut ranges = vec![1..3, 5..6];
        assert_eq!(find_range(&ranges, 4), Err(1));
        assert!(insert_number(&mut ranges, 1, 4, 2));
        assert_eq!(ranges, [1..3, 4..6]);
        assert!(insert_number(&mut ranges, 1, 3, 2));
        assert_eq!((ranges.len(), ranges[0].clone()), (1, 1..6));
        assert_eq!(
            (find_range(&ranges, 5), find_range(&ranges, 6)),
            (Ok(0), Err(1))
        );
    }

    #[test]
    fn a_new_range_needs_room() {
        let mut ranges = vec![1..3, 5..6];
        assert!(!insert_number(&mut ranges, 2, 9, 2));
        assert!(insert_number(&mut ranges, 2, 9, 3));
        assert_eq!(ranges, [1..3, 5..6, 9..10]);
    }
}
