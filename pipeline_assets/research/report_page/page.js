// Draws the charts of a backtest report. Its data is JSON in the page; nothing is fetched.
(function () {
  "use strict";
  const UP = "#0072b2", DOWN = "#b34700", INK = "#1b1f24", FAINT = "#5b6570", LINE = "#d5dae0";
  const data = JSON.parse(document.getElementById("data").textContent);
  const { createChart, createSeriesMarkers, LineSeries, AreaSeries, CandlestickSeries } = LightweightCharts;

  function chart(id) {
    return createChart(document.getElementById(id), {
      autoSize: true,
      layout: { background: { color: "#ffffff" }, textColor: INK, attributionLogo: true },
      grid: { vertLines: { color: "#eef1f4" }, horzLines: { color: "#eef1f4" } },
      rightPriceScale: { borderColor: LINE, minimumWidth: 76 },
      timeScale: { borderColor: LINE, timeVisible: true, secondsVisible: false, minBarSpacing: 0.02 },
      localization: { locale: "en-GB" },
    });
  }

  // Columns keep the page small: [times, values, …] in place of an object for each point.
  function points(columns) {
    return columns[0].map(function (time, place) { return { time: time, value: columns[1][place] }; });
  }

  function money(value) { return value.toLocaleString("en-US", { maximumFractionDigits: 0 }); }

  const equity = chart("equity"), drawdown = chart("drawdown");
  equity.addSeries(LineSeries, {
    color: UP, lineWidth: 2, priceFormat: { type: "custom", formatter: money, minMove: 0.01 },
  }).setData(points(data.equity));
  drawdown.addSeries(AreaSeries, {
    lineColor: DOWN, topColor: "rgba(179, 71, 0, 0.05)", bottomColor: "rgba(179, 71, 0, 0.35)", lineWidth: 1,
    // From 0 down to the curve: without a drawdown nothing is filled.
    invertFilledArea: true,
    priceFormat: { type: "custom", formatter: function (value) { return value.toFixed(2) + " %"; }, minMove: 0.01 },
  }).setData(points(data.drawdown));
  // Both show the same span; a callback of one must not start the other's again.
  let following = false;
  [[equity, drawdown], [drawdown, equity]].forEach(function (pair) {
    pair[0].timeScale().subscribeVisibleLogicalRangeChange(function (range) {
      if (!range || following) { return; }
      following = true;
      pair[1].timeScale().setVisibleLogicalRange(range);
      following = false;
    });
  });
  equity.timeScale().fitContent();
  drawdown.timeScale().fitContent();

  const names = Object.keys(data.charts);
  if (!names.length) { return; }
  const candles = chart("candles");
  const series = candles.addSeries(CandlestickSeries, {
    // Rising candles are hollow and falling ones filled, as in print.
    upColor: "#ffffff", borderUpColor: UP, wickUpColor: UP, downColor: DOWN, borderDownColor: DOWN, wickDownColor: DOWN,
  });
  const markers = createSeriesMarkers(series, []);
  const symbol = document.getElementById("symbol");
  names.forEach(function (name) { symbol.add(new Option(name, name)); });

  function marker(row) {
    const time = row[0], kind = row[1], text = row[2];
    const entry = kind === "long" || kind === "short";
    const below = kind === "long" || kind === "exit short";
    return {
      time: time, text: text, color: entry ? INK : FAINT, position: below ? "belowBar" : "aboveBar",
      shape: !entry ? "square" : below ? "arrowUp" : "arrowDown",
    };
  }

  function show(name) {
    const held = data.charts[name];
    series.applyOptions({ priceFormat: { type: "price", precision: held.decimals, minMove: Math.pow(10, -held.decimals) } });
    series.setData(held.candles[0].map(function (time, place) {
      if (held.candles[1][place] === null) { return { time: time }; }
      return {
        time: time, open: held.candles[1][place], high: held.candles[2][place],
        low: held.candles[3][place], close: held.candles[4][place],
      };
    }));
    markers.setMarkers(held.marks.map(marker));
    document.getElementById("span").textContent = held.note;
    const last = held.candles[0].length, first = Math.max(0, last - 120);
    candles.timeScale().setVisibleLogicalRange({ from: first, to: last + 3 });
  }

  symbol.addEventListener("change", function () { show(symbol.value); });
  document.getElementById("all").addEventListener("click", function () { candles.timeScale().fitContent(); });
  show(names[0]);
})();
