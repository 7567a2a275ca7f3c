use std::fs;

use expect_test::expect;
use serde_json::json;

use super::*;

fn example() -> Recommendation {
    Recommendation {
        setting: "optimiser.lr".into(),
        value: json!(3e-4),
        unit: None,
        interval: Some(RecommendedInterval { low: 2e-4, high: 5e-4, confidence: 0.95 }),
        basis: "Lowest validation loss in 3 of 3 seeds.".into(),
        caveats: vec!["Not tried above 10 M parameters.".into()],
    }
}

#[test]
fn the_file_reads_well_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recommendation.json");
    let word = Recommendation {
        setting: "positions".into(),
        value: json!("xpos"),
        interval: None,
        caveats: vec![],
        ..example()
    };
    let both = [example(), word];
    write_recommendations(&path, &both).unwrap();
    assert_eq!(read_recommendations(&path).unwrap(), both);
    expect![[r#"
        [
          {
            "setting": "optimiser.lr",
            "value": 0.0003,
            "interval": {
              "low": 0.0002,
              "high": 0.0005,
              "confidence": 0.95
            },
            "basis": "Lowest validation loss in 3 of 3 seeds.",
            "caveats": [
              "Not tried above 10 M parameters."
            ]
          },
          {
            "setting": "positions",
            "value": "xpos",
            "basis": "Lowest validation loss in 3 of 3 seeds.",
            "caveats": []
          }
        ]
    "#]]
    .assert_eq(&fs::read_to_string(&path).unwrap());
    write_recommendations(&path, &[]).unwrap();
    assert_eq!(read_recommendations(&path).unwrap(), []);
}

#[test]
fn nonsense_is_refused_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recommendation.json");
    let check = |change: &dyn Fn(&mut Recommendation), expected: &str| {
        let mut recommendation = example();
        change(&mut recommendation);
        let error = write_recommendations(&path, &[recommendation.clone()]).unwrap_err();
        assert_eq!(error.to_string(), expected);
        write_json(&path, &[recommendation]).unwrap();
        assert!(matches!(read_recommendations(&path), Err(Error::File { .. })));
        fs::remove_file(&path).unwrap();
    };
    let ends = |low, high| Some(RecommendedInterval { low, high, confidence: 0.95 });
    check(&|r| r.setting.clear(), "`setting` must be the name of a setting, got nothing");
    check(&|r| r.basis.clear(), "`optimiser.lr.basis` must be a sentence, got nothing");
    check(&|r| r.value = Value::Null, "`optimiser.lr.value` must be a value, got null");
    check(
        &|r| r.value = json!("high"),
        "`optimiser.lr.value` must be a number, as it has an interval, got \"high\"",
    );
    check(
        &|r| r.interval = ends(1.0, 2.0),
        "`optimiser.lr.value` must be within [1, 2], got 0.0003",
    );
    check(
        &|r| r.interval = ends(2.0, 1.0),
        "`optimiser.lr.interval` must be two finite ends in order, got [2, 1]",
    );
    check(
        &|r| r.interval = r.interval.map(|i| RecommendedInterval { confidence: 95.0, ..i }),
        "`optimiser.lr.confidence` must be between 0 and 1, got 95",
    );
}
