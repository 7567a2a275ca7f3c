use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::plot::{Axis, Plot, Point, Series, Style, Xy};
use crate::recommendation::RecommendedInterval;
use crate::stats::Interval;
use crate::verdict::{Direction, Diverged, Effect, Judgement, Method, Replicate, Rule, Verdict};

fn rule() -> Rule {
    Rule {
        metric: "loss_at_2048".into(),
        arm: "xpos".into(),
        baseline: "rope".into(),
        effect: Effect::Difference,
        direction: Direction::Lower,
        margin: 0.02,
        confidence: 0.95,
        min_seeds: 3,
        paired: true,
        interval: Method::Student,
        diverged: Diverged::Inconclusive,
        resolution: 0.0,
        replicate: Replicate::default(),
    }
}

fn claim(verdict: Verdict, effect: Option<f64>, interval: Option<Interval>) -> Claim {
    let reason = "made up for this test".into();
    let judgement = Judgement { verdict, effect, interval, n_seeds: 5, reason };
    Claim { text: "xPos extrapolates".into(), unit: "nats".into(), rule: rule(), judgement }
}

fn figure() -> Figure {
    let series = vec![Series::new("arm", Style::Line, vec![Point::new(1.0, 2.0)])];
    let plot = Xy { x: Axis::new("step", ""), y: Axis::new("loss", "nats"), series, lines: vec![] };
    Figure::new("Loss", Plot::Xy(plot))
}

fn recommendation(text: &str) -> Recommendation {
    Recommendation {
        setting: text.into(),
        value: 3e-4.into(),
        unit: Some(text.into()),
        interval: Some(RecommendedInterval { low: 2e-4, high: 5e-5, confidence: 0.95 }),
        basis: text.into(),
        caveats: vec![text.into()],
    }
}

/// Every kind of block with `text` wherever text can be.
fn everywhere(text: &str) -> Report {
    let own = || text.to_owned();
    let mut claim = claim(Verdict::Inconclusive, Some(0.5), None);
    claim.text = own();
    claim.unit = own();
    claim.judgement.reason = own();
    claim.rule.metric = own();
    let mut figure = figure();
    figure.title = own();
    figure.caption = own();
    if let Plot::Xy(plot) = &mut figure.plot {
        plot.series[0].name = own();
        plot.x.label = own();
        plot.y.unit = own();
    }
    let number = KeyNumber { value: own(), unit: own(), label: own() };
    let table = Table {
        caption: own(),
        columns: vec![crate::table::Column::text(text)],
        rows: vec![vec![text.into()]],
    };
    let blocks = vec![
        Block::Heading(own()),
        Block::Paragraph(own()),
        Block::List(vec![own()]),
        Block::KeyNumbers(vec![number]),
        Block::Verdicts(vec![claim]),
        Block::Recommendations(vec![recommendation(text)]),
        Block::Table(table),
        Block::Figure(figure),
        Block::Heading(own()),
        Block::Sample(Sample { title: own(), prompt: own(), text: own() }),
        Block::Note(own()),
        Block::Caveat(own()),
        Block::Command(Command { label: own(), lines: vec![own()] }),
        Block::KeyValues(KeyValues { caption: own(), pairs: vec![(own(), own())] }),
    ];
    Report { title: own(), summary: own(), blocks }
}

/// Names of all elements, in order, but for the lines of labels in figures and for code in
/// backticks, whose number depends on the text.
fn fixed_tags(html: &str) -> Vec<&str> {
    let tags = html.split('<').skip(1).filter_map(|rest| rest.split([' ', '>']).next());
    tags.filter(|tag| !["text", "code"].contains(&tag.trim_start_matches('/'))).collect()
}

fn check(actual: &str, expected: Expect) {
    expected.assert_eq(actual);
}

#[test]
fn verdicts_in_a_terminal() {
    let interval = |low, high| Some(Interval { low, high });
    let texts = [
        claim(Verdict::Reproduced, Some(-0.3121), interval(-0.351, -0.274)),
        claim(Verdict::NotReproduced, Some(0.11), interval(0.08, 0.14)),
        claim(Verdict::Inconclusive, Some(0.5), None),
        claim(Verdict::Inconclusive, None, None),
    ]
    .map(|claim| claim.to_terminal(80));
    check(
        &texts.concat(),
        expect![[r#"
            ✓ reproduced: xPos extrapolates
              effect  -0.312 [-0.351, -0.274] nats at 95 %
              seeds   5
              rule    loss_at_2048 of xpos minus that of rope lies below -0.02, with the
                      whole 95 % interval over at least 3 paired seeds
              reason  made up for this test
            ✗ not reproduced: xPos extrapolates
              effect  0.110 [0.080, 0.140] nats at 95 %
              seeds   5
              rule    loss_at_2048 of xpos minus that of rope lies below -0.02, with the
                      whole 95 % interval over at least 3 paired seeds
              reason  made up for this test
            ? inconclusive: xPos extrapolates
              effect  0.500 nats, no interval
              seeds   5
              rule    loss_at_2048 of xpos minus that of rope lies below -0.02, with the
                      whole 95 % interval over at least 3 paired seeds
              reason  made up for this test
            ? inconclusive: xPos extrapolates
              effect  not known
              seeds   5
              rule    loss_at_2048 of xpos minus that of rope lies below -0.02, with the
                      whole 95 % interval over at least 3 paired seeds
              reason  made up for this test
        "#]],
    );
}

#[test]
fn rules_in_words() {
    let rules = [
        rule(),
        Rule { direction: Direction::Higher, effect: Effect::Ratio, paired: false, ..rule() },
        Rule { direction: Direction::Same, diverged: Diverged::Drop, ..rule() },
        Rule { direction: Direction::Same, effect: Effect::Ratio, confidence: 0.995, ..rule() },
        Rule { margin: -0.02, diverged: Diverged::Value(5.5), ..rule() },
    ];
    check(
        &rules.map(|rule| rule_in_words(&rule) + "\n").concat(),
        expect![[r#"
        loss_at_2048 of xpos minus that of rope lies below -0.02, with the whole 95 % interval over at least 3 paired seeds
        loss_at_2048 of xpos divided by that of rope lies above 1.02, with the whole 95 % interval over at least 3 seeds
        loss_at_2048 of xpos minus that of rope lies between -0.02 and 0.02 (around 0), with the whole 95 % interval over at least 3 paired seeds; seeds that diverged are left out
        loss_at_2048 of xpos divided by that of rope lies between 0.98 and 1.02 (around 1), with the whole 99.5 % interval over at least 3 paired seeds
        loss_at_2048 of xpos minus that of rope lies below 0.02, with the whole 95 % interval over at least 3 paired seeds; a seed that diverged counts as 5.5
    "#]],
    );
}

#[test]
fn a_report_in_markdown() {
    check(
        &everywhere("a *b*").to_markdown(),
        expect![[r#"
            # a \*b\*

            a \*b\*

            ## a \*b\*

            a \*b\*

            - a \*b\*

            - a \*b\*: a \*b\* a \*b\*

            **? inconclusive**: a \*b\*

            - effect: 0.500 a \*b\*, no interval
            - seeds: 5
            - rule: a \*b\* of xpos minus that of rope lies below -0.02, with the whole 95 % interval over at least 3 paired seeds
            - reason: a \*b\*

            **Recommended**: a \*b\* = **0.0003** a \*b\*, \[0.0002, 5e-5\] at 95 %

            a \*b\*

            - a \*b\*

            **a \*b\***

            | a \*b\* |
            | :-- |
            | a \*b\* |

            **Data of “a \*b\*”**

            | series | a \*b\* | loss (a \*b\*) |
            | :-- | --: | --: |
            | a \*b\* | 1 | 2.000 |

            a \*b\*

            ## a \*b\*

            a \*b\*

            ```text
            a *b*a *b*
            ```

            > **Note.** a \*b\*

            > **Caveat.** a \*b\*

            a \*b\*

            ```sh
            a *b*
            ```

            **a \*b\***

            | name | value |
            | :-- | :-- |
            | a \*b\* | a \*b\* |
        "#]],
    );
}

#[test]
fn figures_of_a_markdown_report_can_be_files() {
    let blocks = vec![Block::Figure(figure()), Block::Figure(figure())];
    let report = Report { title: "r".into(), summary: String::new(), blocks };
    let (markdown, files) = report.to_markdown_with_figures("figures/");
    assert!(markdown.contains("![Loss](figures/figure-1.svg)"), "{markdown}");
    assert!(markdown.contains("![Loss](figures/figure-2.svg)"), "{markdown}");
    assert_eq!(
        files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(),
        ["figure-1.svg", "figure-2.svg"]
    );
    assert!(files.iter().all(|file| file.content.starts_with("<svg xmlns=")));
}

#[test]
fn code_between_backticks_is_code_wherever_a_page_has_sentences() {
    let words = "say `--set a<b`, then stop".to_owned();
    let shown = "say <code>--set a&lt;b</code>, then stop";
    for block in [
        Block::Caveat(words.clone()),
        Block::Note(words.clone()),
        Block::Paragraph(words.clone()),
        Block::List(vec![words.clone()]),
    ] {
        let report = Report { title: "t".into(), summary: String::new(), blocks: vec![block] };
        let html = report.to_html();
        assert!(html.contains(shown), "{html}");
    }
    let html = Report { title: "t".into(), summary: words, blocks: vec![] }.to_html();
    assert!(html.contains(shown), "{html}");
}

#[test]
fn a_claim_says_what_it_rests_on() {
    let replicate = Replicate { one: "turn".into(), many: "turns".into() };
    let of_seeds = claim(Verdict::Reproduced, Some(-0.3), None);
    let rule = Rule { replicate, diverged: Diverged::Drop, ..of_seeds.rule.clone() };
    let of_turns = Claim { rule, ..of_seeds };
    let text = of_turns.to_terminal(200);
    assert!(
        text.contains("  from    5 turns\n")
            && text.contains("3 paired turns; turns that diverged are left out"),
        "{text}"
    );
    let blocks = vec![Block::Verdicts(vec![of_turns])];
    let report = Report { title: "t".into(), summary: String::new(), blocks };
    assert!(report.to_markdown().contains("\n- from: 5 turns\n"));
    assert!(report.to_html().contains("<dt>From</dt><dd>5 turns</dd>"));
}

#[test]
fn a_page_needs_nothing_and_forbids_everything() {
    let html = everywhere("text").to_html();
    assert!(html.contains("Content-Security-Policy\" content=\"default-src 'none';"));
    for forbidden in ["<script", "<iframe", "<img", "@import", "url(", "http:", "https:", "src=\""]
    {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    let links: Vec<&str> = html.split("href=\"").skip(1).collect();
    assert!(links.iter().all(|link| link.starts_with('#') || link.starts_with("data:,\"")));
}

#[test]
fn text_cannot_leave_its_place() {
    let attack = "</style></title></blockquote><script>alert(1)</script>\" onload='x' <!-- ]]> \u{202e} \u{0} `";
    let (plain, attacked) = (everywhere("text").to_html(), everywhere(attack).to_html());
    assert_eq!(fixed_tags(&attacked), fixed_tags(&plain));
    assert!(!attacked.contains("<script") && !attacked.contains("<!--"));
    assert!(!attacked.contains('\u{202e}') && !attacked.contains('\u{0}'));
}

#[test]
fn sections_are_linked_and_closed() {
    let html = everywhere("text").to_html();
    assert!(html.contains("<a href=\"#section-2\">text</a>"));
    assert!(html.contains("<section id=\"section-2\">"));
    assert_eq!(html.matches("<section").count(), html.matches("</section>").count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_text_changes_the_elements_of_a_page(text in "[ -~\\n\\u{0}-\\u{20}\\u{202a}-\\u{202e}<>\"'&]{1,40}") {
        prop_assume!(!crate::text::one_line(&text).is_empty());
        let (plain, attacked) = (everywhere("text").to_html(), everywhere(&text).to_html());
        prop_assert_eq!(fixed_tags(&attacked), fixed_tags(&plain));
    }

    #[test]
    fn no_text_starts_a_block_of_markdown(text in "[ -~\\n]{1,40}") {
        prop_assume!(!crate::text::one_line(&text).is_empty());
        let block = Block::Paragraph(text.clone());
        let report = Report { title: "t".into(), summary: String::new(), blocks: vec![block] };
        let markdown = report.to_markdown();
        let lines: Vec<&str> = markdown.lines().collect();
        prop_assert_eq!(lines.len(), 3, "{:?}", lines);
        for start in ["# ", "##", "- ", "--", "+ ", "= ", "==", ">", "*", "|", "`", "~", "<"] {
            prop_assert!(!lines[2].starts_with(start), "{}", lines[2]);
        }
    }
}
