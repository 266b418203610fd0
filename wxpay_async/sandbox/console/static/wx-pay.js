// A stand-in for wx.requestPayment in a web build of a mini program. It opens the sandbox's cashier
// over the page and answers with WeChat's own texts. No money moves.
//
//   <script src="http://127.0.0.1:8080/wx-pay.js" data-app-id="wx..."></script>
//
// data-app-id is the mini program's own appId, which a phone knows by itself. Without it, the one of
// the prepay is taken. data-lang is zh or en.
"use strict";

(() => {
  const script = document.currentScript;
  const sandbox = new URL(script.src).origin;
  const NAMES = ["timeStamp", "nonceStr", "package", "signType", "paySign"];

  const nameType = (value) => (value === undefined ? "Undefined" : value === null ? "Null" : value.constructor.name);

  const findProblem = (options) => {
    for (const name of NAMES) {
      if (name === "signType" && options[name] === undefined) continue;
      if (typeof options[name] !== "string") {
        return `requestPayment:fail parameter error: parameter.${name} should be String instead of ${nameType(options[name])};`;
      }
    }
    return options.package.startsWith("prepay_id=") ? "" : "requestPayment:fail package 参数错误";
  };

  const open = (options) => {
    const given = { signType: "MD5" }; // what WeChat takes when there is none
    for (const name of NAMES) if (options[name] !== undefined) given[name] = options[name];
    if (script.dataset.appId || options.appId) given.appId = script.dataset.appId || options.appId;
    const query = new URLSearchParams({ prepay: options.package.slice("prepay_id=".length), origin: location.origin });
    if (script.dataset.lang) query.set("lang", script.dataset.lang);
    const frame = document.createElement("iframe");
    frame.title = "wx.requestPayment";
    frame.style.cssText = "position:fixed;inset:0;width:100%;height:100%;border:0;z-index:2147483647;background:transparent;color-scheme:light dark";
    frame.src = `${sandbox}/cashier?${query}#${new URLSearchParams(given)}`;
    return frame;
  };

  const show = (options) => new Promise((resolve) => {
    const problem = findProblem(options);
    if (problem) return resolve(problem);
    const frame = open(options);
    const before = document.activeElement;
    const listen = (event) => {
      if (event.source !== frame.contentWindow || event.origin !== sandbox) return;
      if (!event.data || event.data.from !== "wxpay-sandbox") return;
      window.removeEventListener("message", listen);
      frame.remove();
      if (before && before.focus) before.focus();
      resolve(event.data.errMsg);
    };
    window.addEventListener("message", listen);
    frame.addEventListener("load", () => frame.contentWindow.focus());
    document.body.append(frame);
  });

  const requestPayment = (options = {}) => {
    const { success, fail, complete } = options;
    const ended = show(options).then((errMsg) => {
      const result = { errMsg };
      const paid = errMsg === "requestPayment:ok";
      const report = paid ? success : fail;
      if (report) report(result);
      if (complete) complete(result);
      if (!paid && !success && !fail && !complete) throw result; // as WeChat's promises do
      return result;
    });
    // With callbacks WeChat returns nothing.
    return success || fail || complete ? void ended : ended;
  };

  window.wx = Object.assign(window.wx || {}, { requestPayment });
})();
