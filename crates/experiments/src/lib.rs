//! The composition: experiments as configs, plans, cells and reports.
