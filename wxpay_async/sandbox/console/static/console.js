// Console and cashier: live rows, buttons without reloading, and the phone's check of the signature.
"use strict";

(() => {
  // Rows and details, live

  const find = (selector, root = document) => root.querySelector(selector);
  const list = find("[data-rows]");
  const rows = new Map();
  if (list) for (const row of list.children) rows.set(row.dataset.key, row);

  const parse = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html; // rendered by the sandbox, which escapes every text
    return template.content;
  };

  const setRow = ({ key, html }) => {
    const old = rows.get(key);
    const next = html ? parse(html).firstElementChild : null;
    const focused = old && old.contains(document.activeElement);
    const open = old && find("details[open]", old);
    if (old && next) old.replaceWith(next);
    else if (old) old.remove();
    else if (next) list.prepend(next);
    if (!next) return void rows.delete(key);
    rows.set(key, next);
    next.classList.add("fresh");
    if (open) find("details", next).open = true;
    if (focused) (find("a, summary", next) || next).focus();
    while (list.children.length > Number(list.dataset.limit)) {
      rows.delete(list.lastElementChild.dataset.key);
      list.lastElementChild.remove();
    }
  };

  const setDetail = ({ html }) => {
    const detail = find("[data-detail]");
    const focus = document.activeElement.dataset.focus;
    const open = [...detail.querySelectorAll("details")].map((each) => each.open);
    const results = [...detail.querySelectorAll("[data-result]")].map((each) => [each.dataset.result, each.textContent]);
    const before = detail.querySelectorAll("details").length;
    detail.replaceChildren(parse(html));
    const details = [...detail.querySelectorAll("details")];
    const added = details.length - before; // the newest callback is the first
    details.forEach((each, index) => { each.open = open[index - added] || false; });
    for (const [name, text] of results) {
      const place = find(`[data-result="${CSS.escape(name)}"]`, detail);
      if (place) place.textContent = text;
    }
    const target = focus && find(`[data-focus="${CSS.escape(focus)}"]`, detail);
    if (target) target.focus();
  };

  const setCounts = (counts) => {
    for (const place of document.querySelectorAll("[data-count]")) {
      const name = place.dataset.count;
      place.textContent = name === "total"
        ? ["awaiting", "paid", "failed", "closed"].reduce((sum, state) => sum + (counts[state] || 0), 0)
        : counts[name] || 0;
    }
  };

  const listen = (address) => {
    const live = find("[data-live]");
    const show = (on) => {
      live.textContent = on ? live.dataset.on : live.dataset.off;
      live.className = `live ${on ? "on" : "off"}`;
    };
    const source = new EventSource(address);
    const on = (name, take) => source.addEventListener(name, (event) => take(JSON.parse(event.data)));
    let lost = false;
    source.onopen = () => {
      if (lost) location.reload(); // what happened in the meantime was not sent
      show(true);
    };
    source.onerror = () => { lost = true; show(false); };
    on("row", setRow);
    on("detail", setDetail);
    on("counts", setCounts);
    on("reload", () => {
      source.close();
      show(false);
      find("[data-behind]").hidden = false;
    });
    window.addEventListener("pagehide", () => source.close());
  };

  // Buttons

  const post = async (form, button) => {
    const body = new URLSearchParams(new FormData(form));
    if (button && button.name) body.set(button.name, button.value);
    const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
    return answer.json();
  };

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("[data-act]")) return;
    event.preventDefault();
    const place = find("[data-result]", form);
    let text = "";
    try {
      const result = await post(form, event.submitter);
      if (result.ok && form.dataset.then === "reload") return void location.reload();
      text = result.text;
    } catch {
      text = "✗";
    }
    // The page may have been rendered again in the meantime.
    const now = (place && find(`[data-result="${CSS.escape(place.dataset.result)}"]`)) || find(".result", form);
    if (now) now.textContent = text;
  });

  document.addEventListener("toggle", async (event) => {
    const details = event.target;
    if (!details.open || !details.dataset || !details.dataset.load) return;
    const address = details.dataset.load;
    delete details.dataset.load;
    const answer = await fetch(address);
    find("[data-loaded]", details).replaceChildren(parse(await answer.text()));
  }, true);

  document.addEventListener("keydown", (event) => {
    const search = find("[data-search]");
    if (event.key === "/" && search && !event.target.matches("input")) {
      event.preventDefault();
      search.focus();
    }
  });

  const reload = find("[data-reload]");
  if (reload) reload.addEventListener("click", () => location.reload());

  // The cashier

  const NAMES = ["timeStamp", "nonceStr", "package", "signType", "paySign"];
  const FAILURES = {
    expired: "requestPayment:fail 订单已过期，请重新下单",
    closed: "requestPayment:fail 订单已关闭",
    paid: "requestPayment:fail 该订单已支付",
    failed: "requestPayment:fail cancel",
  };

  const readBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

  // Verify paySign as the phone does: RSASSA-PKCS1-v1_5 with SHA-256, by the browser's own crypto.
  const verify = async (params, appId, key) => {
    if (!crypto.subtle) return "unable";
    const message = [appId, params.timeStamp, params.nonceStr, params.package].map((line) => `${line}\n`).join("");
    const algorithm = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
    try {
      const publicKey = await crypto.subtle.importKey("spki", readBase64(key), algorithm, false, ["verify"]);
      const sign = readBase64(params.paySign);
      const fits = await crypto.subtle.verify(algorithm, publicKey, sign, new TextEncoder().encode(message));
      return fits && params.signType === "RSA" ? "ok" : "bad";
    } catch {
      return "bad"; // not Base64, for instance
    }
  };

  const openCashier = async (body) => {
    const { state, appId, key, origin, back } = body.dataset;
    const given = new URLSearchParams(location.hash.slice(1));
    const own = !location.hash;
    const params = own ? JSON.parse(body.dataset.jsapi) : Object.fromEntries(NAMES.map((n) => [n, given.get(n) || ""]));
    const form = find("[data-pay]");
    const check = find("[data-check]");
    const outcome = find("[data-outcome]");
    const buttons = form.querySelectorAll("[data-open] button");
    let errMsg = "requestPayment:fail cancel";

    const report = () => {
      if (window.parent !== window) {
        const target = origin && origin !== "null" ? origin : "*";
        window.parent.postMessage({ from: "wxpay-sandbox", errMsg }, target);
      } else {
        location.assign(back);
      }
    };
    const end = (name, message) => {
      errMsg = message;
      outcome.textContent = outcome.dataset[name] || "";
      outcome.className = `outcome ${name}`;
      find("[data-mark]").textContent = name === "paid" ? "✓" : "";
      for (const part of document.querySelectorAll("[data-open]")) part.hidden = true;
      find("[data-ended]").hidden = false;
      find("[data-done]").focus();
      body.dataset.ended = name;
    };
    const perform = async (button) => {
      const act = button.value;
      for (const each of buttons) each.disabled = true;
      let result;
      try {
        result = await post(form, button);
      } catch {
        result = { ok: false, state: "", text: "" };
      }
      for (const each of buttons) each.disabled = false;
      if (result.state === "expired") return end("expired", FAILURES.expired);
      if (!result.ok) { outcome.textContent = result.text || outcome.dataset.error; return; }
      if (act === "leave") return report();
      if (act === "wrong_password") { outcome.textContent = outcome.dataset.wrong_password; return; }
      if (act === "confirm" && result.state === "paid") return end("paid", "requestPayment:ok");
      if (act === "insufficient" && result.state === "failed") return end("insufficient", FAILURES.failed);
      if (act === "cancel" && result.state === "failed") { errMsg = FAILURES.failed; return report(); }
      end(result.state, FAILURES[result.state]);
    };

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!event.submitter) return;
      // What has ended, or was refused by the phone, is only left.
      if (body.dataset.ended && event.submitter.value === "leave") report();
      else perform(event.submitter);
    });
    find("[data-done]").addEventListener("click", report);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") find('[data-end="leave"]').click();
    });

    if (state !== "awaiting") { check.hidden = true; return end(state, FAILURES[state]); }
    let verdict = "none";
    const signedFor = given.get("appId") || appId;
    if (appId) verdict = signedFor === appId ? await verify(params, appId, key) : "other";
    check.textContent = (own && verdict === "ok" ? `${check.dataset.own} ` : "") + check.dataset[verdict];
    check.className = `check ${verdict === "ok" ? "ok" : ""}${verdict === "bad" || verdict === "other" ? "bad" : ""}`;
    body.dataset.verdict = verdict;
    if (verdict === "bad" || verdict === "other") {
      end("", "requestPayment:fail 支付验证签名失败");
      const note = new URLSearchParams(new FormData(form));
      note.set("act", "bad_parameters");
      await fetch(form.action, { method: "POST", body: note, headers: { Accept: "application/json" } });
      return;
    }
    find('[data-end="confirm"]').focus();
  };

  const body = document.body;
  if (body.dataset.events) listen(`${body.dataset.events}&since=${body.dataset.since}`);
  if ("cashier" in body.dataset) openCashier(body);
})();
