use super::*;
use Held::{Encrypted, Other, Unknown};
use Level::{Final, Plain, Promoted, Reader};
use Plane::{Outside, Runs, Strange, Unseen};

const LEVELS: &[Level] = &[Plain, Reader, Promoted, Final];
const HELD: &[Held] = &[Unknown, Held::Plain, Other, Encrypted];

/// Everything that a control plane may show.
fn all_planes() -> Vec<Plane> {
    let runs = LEVELS
        .iter()
        .flat_map(|level| [true, false].map(|in_effect| Runs { level: *level, in_effect }));
    runs.chain([Unseen, Outside, Strange]).collect()
}

/// Every way in which up to three control planes may look.
fn all_clusters() -> Vec<Vec<Plane>> {
    let one: Vec<Vec<Plane>> = all_planes().into_iter().map(|p| vec![p]).collect();
    let more = |fewer: &[Vec<Plane>]| -> Vec<Vec<Plane>> {
        let with = |planes: &Vec<Plane>| {
            all_planes().into_iter().map(|p| [planes.clone(), vec![p]].concat()).collect::<Vec<_>>()
        };
        fewer.iter().flat_map(with).collect()
    };
    let two = more(&one);
    let three = more(&two);
    [one, two, three].concat()
}

fn members(planes: &[Plane]) -> Vec<(Level, bool)> {
    let member = |p: &Plane| match p {
        Runs { level, in_effect } => Some((*level, *in_effect)),
        _ => None,
    };
    planes.iter().filter_map(member).collect()
}

/// What each of them is to have.
fn targets(planes: &[Plane], rung: Rung) -> Vec<Option<Level>> {
    let of = |(at, plane): (usize, &Plane)| match plane {
        Runs { level, in_effect } => {
            let mut others = planes.to_vec();
            others.remove(at);
            Some(target(rung, *level, *in_effect, &others))
        }
        _ => None,
    };
    planes.iter().enumerate().map(of).collect()
}

/// What an API server that may have been started with any file before reads and writes for certain.
fn reads(plane: &Plane) -> bool {
    matches!(plane, Runs { level, in_effect: true } if *level >= Reader)
}

#[test]
fn no_rung_loses_an_object_whatever_control_planes_show() {
    let mut seen = BTreeSet::new();
    for planes in all_clusters() {
        for held in HELD {
            let Ok(Some(rung)) = next(&planes, *held) else { continue };
            seen.insert(rung);
            let said = format!("{planes:?} {held:?}: {rung:?}");
            assert!(!planes.contains(&Strange), "{said}");
            let targets = targets(&planes, rung);
            for (at, (plane, goal)) in planes.iter().zip(&targets).enumerate() {
                let (Runs { level, in_effect }, Some(goal)) = (plane, goal) else { continue };
                let others = || planes.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, p)| p);
                // A reader that is there stays.
                assert!(*level < Reader || *goal >= Reader, "{said}");
                // Nobody begins to encrypt before all others are known to read it.
                if *goal >= Promoted && *level < Promoted {
                    assert!(planes.iter().all(|p| *p == Outside || reads(p)), "{said}");
                }
                // Nor does one whose file says so, and of which nobody knows whether it has begun.
                if *goal >= Promoted && *level >= Promoted && !in_effect {
                    let file = |p: &Plane| matches!(p, Runs { level, .. } if *level >= Promoted);
                    let readers = others().all(|p| *p == Outside || reads(p));
                    assert!(readers || others().all(|p| *p == Outside || file(p)), "{said}");
                }
                // Plain text is read as long as somebody may write it, or some is stored.
                if *goal == Final && *level != Final {
                    assert_eq!((rung, *held), (Rung::Drop, Encrypted), "{said}");
                    assert!(
                        planes.iter().all(|p| matches!(p, Outside)
                            || matches!(p, Runs { level, in_effect: true } if *level >= Promoted)),
                        "{said}"
                    );
                }
            }
            // Objects are written again only once every API server encrypts, or they would be in plain text again.
            if rung == Rung::Rewrite {
                assert!(members(&planes).iter().all(|m| *m == (Promoted, true)), "{said}");
                assert!(!planes.contains(&Unseen), "{said}");
            }
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), Rung::ALL);
}

/// One control plane after the other is brought to the rung, and a run may end after each of them.
#[test]
fn wherever_a_run_ends_the_next_one_climbs_to_the_top() {
    for first in all_clusters() {
        let is_known = |p: &Plane| !matches!(p, Strange | Unseen);
        if !first.iter().all(is_known) || members(&first).is_empty() {
            continue;
        }
        for begins in [Held::Plain, Encrypted] {
            let (mut planes, mut held) = (first.clone(), begins);
            let mut steps = 0;
            while let Some(rung) = next(&planes, held).unwrap() {
                steps += 1;
                assert!(steps < 40, "{first:?} stays at {rung:?} with {planes:?}");
                if rung == Rung::Rewrite {
                    held = Encrypted;
                    continue;
                }
                // Only one of them that is not there yet; then the controller is killed.
                let goals = targets(&planes, rung);
                let todo = planes.iter().zip(&goals).position(|(plane, goal)| {
                    goal.is_some_and(|goal| *plane != Runs { level: goal, in_effect: true })
                });
                let at = todo.unwrap_or_else(|| panic!("{rung:?} changes nothing of {planes:?}"));
                planes[at] = Runs { level: goals[at].unwrap(), in_effect: true };
            }
            assert!(members(&planes).iter().all(|(level, _)| *level == Final), "{planes:?}");
        }
    }
}

#[test]
fn one_that_was_not_looked_at_holds_up_what_it_may_not_be_able_to_read() {
    let runs = |level| Runs { level, in_effect: true };
    assert_eq!(next(&[runs(Plain), Unseen], Unknown), Ok(Some(Rung::Read)));
    assert_eq!(next(&[runs(Reader), Unseen], Unknown), Err(Stop::Unseen));
    assert_eq!(next(&[runs(Promoted), Unseen], Encrypted), Err(Stop::Unseen));
    assert_eq!(next(&[runs(Final), Unseen], Unknown), Ok(None));
    assert_eq!(next(&[runs(Reader), Outside], Unknown), Ok(Some(Rung::Promote)));
    assert_eq!(next(&[runs(Promoted)], Unknown), Err(Stop::NotCounted));
    assert_eq!(next(&[runs(Promoted)], Other), Err(Stop::OtherKey));
    assert_eq!(next(&[runs(Reader), Strange], Unknown), Err(Stop::Strange));
    let stale = Runs { level: Promoted, in_effect: false };
    assert_eq!(next(&[stale, runs(Promoted)], Encrypted), Ok(Some(Rung::Read)));
    assert_eq!(target(Rung::Read, Promoted, false, &[runs(Promoted)]), Promoted);
    assert!(depends_on_stored(&[runs(Promoted)]) && !depends_on_stored(&[stale]));
    assert_eq!(next(&[], Unknown), Ok(None));
}
