use super::{DARK, DARK_GROUND, DASHES, LIGHT, LIGHT_GROUND, dash, heat, luminance};

/// Linear-light matrices for full protanopia, deuteranopia and tritanopia: Machado, Oliveira and
/// Fernandes 2009, table 1, severity 1.0; the first is ordinary vision.
const VISIONS: [[[f64; 3]; 3]; 4] = [
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    [
        [0.152_286, 1.052_583, -0.204_868],
        [0.114_503, 0.786_281, 0.099_216],
        [-0.003_882, -0.048_116, 1.051_998],
    ],
    [
        [0.367_322, 0.860_646, -0.227_968],
        [0.280_085, 0.672_501, 0.047_413],
        [-0.011_820, 0.042_940, 0.968_881],
    ],
    [
        [1.255_528, -0.076_749, -0.178_779],
        [-0.078_411, 0.930_809, 0.147_602],
        [0.004_733, 0.691_367, 0.303_900],
    ],
];

fn rgb(hex: &str) -> [u8; 3] {
    let channel = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    [channel(1), channel(3), channel(5)]
}

fn contrast(a: &str, b: &str) -> f64 {
    let (a, b) = (luminance(rgb(a)) + 0.05, luminance(rgb(b)) + 0.05);
    a.max(b) / a.min(b)
}

/// OKLab coordinates (Ottosson 2020) of a colour as seen with `vision`.
fn seen(hex: &str, vision: &[[f64; 3]; 3]) -> [f64; 3] {
    let linear = rgb(hex).map(|c| {
        let c = f64::from(c) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    });
    let times = |m: &[[f64; 3]; 3], v: [f64; 3]| m.map(|row| (0..3).map(|i| row[i] * v[i]).sum());
    let clipped = times(vision, linear).map(|c: f64| c.clamp(0.0, 1.0));
    let to_lms = [
        [0.412_221_470_8, 0.536_332_536_3, 0.051_445_992_9],
        [0.211_903_498_2, 0.680_699_545_1, 0.107_396_956_6],
        [0.088_302_461_9, 0.281_718_837_6, 0.629_978_700_5],
    ];
    let to_lab = [
        [0.210_454_255_3, 0.793_617_785_0, -0.004_072_046_8],
        [1.977_998_495_1, -2.428_592_205_0, 0.450_593_709_9],
        [0.025_904_037_1, 0.782_771_766_2, -0.808_675_766_0],
    ];
    times(&to_lab, times(&to_lms, clipped).map(f64::cbrt))
}

#[test]
fn series_stand_out_from_the_ground() {
    // 3 is what WCAG 2.2 asks of graphics (success criterion 1.4.11).
    for (colours, ground) in [(LIGHT, LIGHT_GROUND[0]), (DARK, DARK_GROUND[0])] {
        for colour in colours {
            assert!(contrast(colour, ground) >= 3.0, "{colour} on {ground}");
        }
    }
}

#[test]
fn text_reads_on_both_grounds() {
    // 4.5 is what WCAG 2.2 asks of text: ink, muted ink, and the colours of the verdicts.
    for colours in [LIGHT_GROUND, DARK_GROUND] {
        for text in [colours[1], colours[2], colours[5], colours[6], colours[7]] {
            for ground in [colours[0], colours[4]] {
                assert!(contrast(text, ground) >= 4.5, "{text} on {ground}");
            }
        }
    }
}

#[test]
fn colours_differ_also_for_colour_blind_eyes() {
    // Distances of 0.02 are just noticeable side by side; thin lines apart need several times that.
    for colours in [LIGHT, DARK] {
        for vision in &VISIONS {
            for (i, a) in colours.iter().enumerate() {
                for (j, b) in colours.iter().enumerate().skip(i + 1) {
                    let (p, q) = (seen(a, vision), seen(b, vision));
                    let distance = (0..3).map(|k| (p[k] - q[k]).powi(2)).sum::<f64>().sqrt();
                    let least = if j < 4 { 0.12 } else { 0.07 };
                    assert!(distance >= least, "{a} and {b}: {distance:.3}");
                }
            }
        }
    }
}

#[test]
fn slots_that_share_a_colour_differ_in_dash() {
    for slot in 0..LIGHT.len() * (DASHES.len() - 1) {
        assert_ne!(dash(slot), dash(slot + LIGHT.len()), "slot {slot}");
    }
}

#[test]
fn numbers_read_on_every_colour_of_the_heat_scale() {
    let mut before = 0.0;
    for i in 0..=100 {
        let (colour, is_dark) = heat(f64::from(i) / 100.0);
        let text = if is_dark { "#ffffff" } else { "#111111" };
        assert!(contrast(&colour, text) >= 4.2, "{text} on {colour}");
        let luminance = luminance(rgb(&colour));
        assert!(luminance >= before, "the scale gets darker at {colour}");
        before = luminance;
    }
}
