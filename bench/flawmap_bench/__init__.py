"""flawmap beside other methods: boards, peers, baselines, compared objectives, ablations and speed."""
