// Draws the charts of a backtest report. Its data is JSON in the page; nothing is fetched.
(function () {
  "use strict";
  const UP = "#0072b2", DOWN = "#b34700", INK = "#1b1f24", FAINT = "#5b6570", LINE = "#d5dae0";
  const data = JSON.parse(document.getElementById("data").textContent);
  const { createChart, createSeriesMarkers, LineSeries, BaselineSeries, CandlestickSeries } = LightweightCharts;

  // A label is whole or not there, and wide enough for millions, so that charts below each other agree.
  function chart(id, fixed) {
    return createChart(document.getElementById(id), {
      autoSize: true,
      layout: { background: { color: "#ffffff" }, textColor: INK, attributionLogo: true },
      grid: { vertLines: { color: "#eef1f4" }, horzLines: { color: "#eef1f4" } },
      rightPriceScale: { borderColor: LINE, minimumWidth: 96, entireTextOnly: true },
      timeScale: {
        borderColor: LINE, timeVisible: true, secondsVisible: false, minBarSpacing: 0.02, fixLeftEdge: true,
        fixRightEdge: fixed,
      },
      localization: { locale: "en-GB" },
    });
  }

  // Columns keep the page small: [times, values, …] in place of an object for each point.
  function points(columns) {
    return columns[0].map(function (time, place) { return { time: time, value: columns[1][place] }; });
  }

  function money(value) { return value.toLocaleString("en-US", { maximumFractionDigits: 0 }); }

  const equity = chart("equity", true), drawdown = chart("drawdown", true);
  equity.addSeries(LineSeries, {
    color: UP, lineWidth: 2, priceFormat: { type: "custom", formatter: money, minMove: 0.01 },
  }).setData(points(data.equity));
  drawdown.addSeries(BaselineSeries, {
    // From 0 down to the curve: without a drawdown nothing is filled.
    baseValue: { type: "price", price: 0 }, topLineColor: DOWN, bottomLineColor: DOWN, lineWidth: 1,
    bottomFillColor1: "rgba(179, 71, 0, 0.05)", bottomFillColor2: "rgba(179, 71, 0, 0.35)",
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
  const candles = chart("candles", false);
  const series = candles.addSeries(CandlestickSeries, {
    // Rising candles are hollow and falling ones filled, as in print.
    upColor: "#ffffff", borderUpColor: UP, wickUpColor: UP, downColor: DOWN, borderDownColor: DOWN, wickDownColor: DOWN,
  });
  const markers = createSeriesMarkers(series, []);
  const symbol = document.getElementById("symbol");
  names.forEach(function (name) { symbol.add(new Option(name, name)); });

  // Several strategies have a colour each; a number at each mark says the same without colours.
  const COLOURS = [INK, "#00775a", "#aa3377", "#997700", "#3d6fd9", "#7a3e9d", "#8c564b", "#00808f"];
  const several = data.strategies.length > 1;
  const legend = document.getElementById("legend");
  if (several) {
    data.strategies.forEach(function (name, place) {
      const item = document.createElement("li");
      item.textContent = name;
      item.style.color = COLOURS[place % COLOURS.length];
      legend.append(item);
    });
  }

  function marker(row) {
    const time = row[0], kind = row[1], text = row[2], own = COLOURS[row[3] % COLOURS.length];
    const entry = kind === "long" || kind === "short";
    const below = kind === "long" || kind === "exit short";
    return {
      time: time, text: text, color: entry || several ? own : FAINT, position: below ? "belowBar" : "aboveBar",
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
    const times = held.candles[0], last = times.length, length = times[1] - times[0];
    // A label at the left edge would be cut: the edge moves away from the times that have one.
    const labelled = length < 900 ? 3600 : length < 3600 ? 10800 : 86400;
    let first = Math.max(0, last - 120);
    while (first > 0 && times[first + 3] % labelled < 4 * length) { first -= 1; }
    candles.timeScale().setVisibleLogicalRange({ from: first, to: last + 3 });
  }

  symbol.addEventListener("change", function () { show(symbol.value); });
  document.getElementById("all").addEventListener("click", function () { candles.timeScale().fitContent(); });
  show(names[0]);
})();
