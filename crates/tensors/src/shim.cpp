// See shim.h. Only the specific ATen headers are included: <torch/torch.h> takes several times as long.
#include "shim.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <torch/csrc/autograd/edge.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

namespace {

using at::Tensor;
using torch::autograd::Node;
using torch::autograd::variable_list;

char* copied(const char* text) {
  return ft_text(text, std::strlen(text));
}

// Runs `body`; an exception becomes its text, without the C++ stack trace.
template <typename Body>
char* guarded(Body&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return copied(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return copied(error.what());
  } catch (...) {
    return copied("an exception of an unknown type in libtorch");
  }
}

// As guarded, where nobody could be told: what cannot fail but for a defect.
template <typename Body>
void silenced(Body&& body) noexcept {
  ft_free(guarded(std::forward<Body>(body)));
}

std::vector<Tensor> copies(size_t count, ft_tensor* const* handles) {
  std::vector<Tensor> tensors;
  tensors.reserve(count);
  for (size_t i = 0; i < count; i++) {
    tensors.push_back(*handles[i]);
  }
  return tensors;
}

c10::DeviceType device_type(int device) {
  return device < 0 ? c10::kCPU : c10::kCUDA;
}

at::Generator generator(int device) {
  const auto index = static_cast<c10::DeviceIndex>(device < 0 ? -1 : device);
  return at::globalContext().defaultGenerator(c10::Device(device_type(device), index));
}

// The kernels of _fused_adamw_ walk raw memory: anything that is not laid out alike would be garbage.
void check_alike(const Tensor& param, const Tensor& other, const char* what, size_t i, bool kind_too) {
  TORCH_CHECK(other.defined(), "adamw: parameter ", i, " has no ", what);
  TORCH_CHECK(
      other.sizes() == param.sizes(), "adamw: ", what, " ", i, " has shape ", other.sizes(),
      ", the parameter ", param.sizes());
  TORCH_CHECK(
      other.device() == param.device(), "adamw: ", what, " ", i, " is on ", other.device(),
      ", the parameter on ", param.device());
  TORCH_CHECK(
      !kind_too || other.scalar_type() == param.scalar_type(), "adamw: ", what, " ", i, " has kind ",
      other.scalar_type(), ", the parameter ", param.scalar_type());
}

// The text of an error that a Rust backward returned, on its way through libtorch's engine.
struct RustError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A Rust closure; dropped exactly once, by whoever lets go of it last.
struct Closure {
  void* state;
  ft_backward_fn run;
  ft_drop_fn drop;

  Closure(void* state, ft_backward_fn run, ft_drop_fn drop) : state(state), run(run), drop(drop) {}
  Closure(const Closure&) = delete;
  Closure& operator=(const Closure&) = delete;
  ~Closure() {
    drop(state);
  }
};

class RustBackward : public Node {
 public:
  RustBackward(torch::autograd::edge_list&& edges, std::shared_ptr<Closure> closure)
      : Node(std::move(edges)), closure_(std::move(closure)) {}

  std::string name() const override {
    return "RustBackward";
  }

  variable_list apply(variable_list&& grads) override {
    TORCH_CHECK(
        !at::GradMode::is_enabled(),
        "a Rust backward has no second derivative: run backward without create_graph");
    const Running running(*this);
    std::vector<std::unique_ptr<Tensor>> owned;
    owned.reserve(grads.size());
    for (size_t i = 0; i < grads.size(); i++) {
      const bool there = grads[i].defined();
      owned.push_back(std::make_unique<Tensor>(there ? grads[i] : input_metadata(i).zeros_like()));
    }
    std::vector<Tensor*> handed(owned.size());
    for (size_t i = 0; i < owned.size(); i++) {
      handed[i] = owned[i].release();
    }
    std::vector<Tensor*> results(num_outputs(), nullptr);
    char* failure = running.closure->run(
        running.closure->state, handed.data(), handed.size(), results.data(), results.size());
    variable_list answer(results.size());
    for (size_t i = 0; i < results.size(); i++) {
      const std::unique_ptr<Tensor> result(results[i]);
      if (result) {
        answer[i] = *result;
      }
    }
    if (failure != nullptr) {
      const std::string text(failure);
      ft_free(failure);
      throw RustError(text);
    }
    return answer;
  }

  // The engine calls this after a backward pass that does not retain the graph.
  void release_variables() override {
    take();
  }

  void release_resources() override {
    take();
    Node::release_resources();
  }

 private:
  // Marks the closure as running: it is FnMut, so it may not be entered twice.
  struct Running {
    RustBackward& node;
    std::shared_ptr<Closure> closure;

    explicit Running(RustBackward& node) : node(node) {
      const std::lock_guard<std::mutex> lock(node.closure_mutex_);
      TORCH_CHECK(
          node.closure_ != nullptr,
          "this part of the graph was freed by an earlier backward pass: run that one with keep_graph");
      TORCH_CHECK(!node.running_, "a Rust backward was entered while it was running");
      closure = node.closure_;
      node.running_ = true;
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running() {
      const std::lock_guard<std::mutex> lock(node.closure_mutex_);
      node.running_ = false;
    }
  };

  // The closure is dropped outside the lock: what it holds may be graphs of its own.
  void take() {
    std::shared_ptr<Closure> last;
    const std::lock_guard<std::mutex> lock(closure_mutex_);
    last.swap(closure_);
  }

  std::mutex closure_mutex_;
  std::shared_ptr<Closure> closure_;
  bool running_ = false;
};

} // namespace

char* ft_text(const char* bytes, size_t length) {
  char* text = static_cast<char*>(std::malloc(length + 1));
  if (text == nullptr) {
    std::abort();
  }
  std::memcpy(text, bytes, length);
  text[length] = '\0';
  return text;
}

void ft_free(char* text) {
  std::free(text);
}

bool ft_keep_freed_memory() {
#ifdef __GLIBC__
  // No block is mapped by itself, to be unmapped when it is freed; the heap never shrinks; and threads to come do not
  // get heaps of their own, which are unmapped when they are empty.
  return mallopt(M_MMAP_MAX, 0) == 1 && mallopt(M_TRIM_THRESHOLD, -1) == 1 && mallopt(M_ARENA_MAX, 1) == 1;
#else
  return false;
#endif
}

bool ft_set_grad_enabled(bool enabled) {
  const bool before = at::GradMode::is_enabled();
  at::GradMode::set_enabled(enabled);
  return before;
}

bool ft_grad_enabled() {
  return at::GradMode::is_enabled();
}

void ft_clear_grad(ft_tensor* tensor) {
  silenced([&] { tensor->mutable_grad() = Tensor(); });
}

char* ft_autocast_get(int device, ft_autocast* state) {
  return guarded([&] {
    const auto type = device_type(device);
    state->enabled = at::autocast::is_autocast_enabled(type);
    state->kind = static_cast<int>(at::autocast::get_autocast_dtype(type));
    state->cache = at::autocast::is_autocast_cache_enabled();
  });
}

char* ft_autocast_set(int device, const ft_autocast* state) {
  return guarded([&] {
    const auto type = device_type(device);
    at::autocast::set_autocast_dtype(type, static_cast<at::ScalarType>(state->kind));
    at::autocast::set_autocast_cache_enabled(state->cache);
    at::autocast::set_autocast_enabled(type, state->enabled);
  });
}

void ft_autocast_enter() {
  at::autocast::increment_nesting();
}

void ft_autocast_leave() {
  if (at::autocast::decrement_nesting() == 0) {
    ft_autocast_clear_cache();
  }
}

void ft_autocast_clear_cache() {
  silenced([] { at::autocast::clear_cache(); });
}

char* ft_generator_get(int device, ft_tensor** state) {
  return guarded([&] {
    auto source = generator(device);
    const std::lock_guard<std::mutex> lock(source.mutex());
    *state = new Tensor(source.get_state());
  });
}

char* ft_generator_set(int device, const ft_tensor* state) {
  return guarded([&] {
    auto target = generator(device);
    const std::lock_guard<std::mutex> lock(target.mutex());
    target.set_state(*state);
  });
}

char* ft_fused_adamw(
    size_t count, ft_tensor* const* params, ft_tensor* const* grads, ft_tensor* const* exp_avgs,
    ft_tensor* const* exp_avg_sqs, ft_tensor* const* steps, double lr, double beta1, double beta2,
    double weight_decay, double eps) {
  return guarded([&] {
    const at::NoGradGuard no_grad;
    auto p = copies(count, params);
    auto g = copies(count, grads);
    auto m = copies(count, exp_avgs);
    auto v = copies(count, exp_avg_sqs);
    auto s = copies(count, steps);
    for (size_t i = 0; i < count; i++) {
      TORCH_CHECK(p[i].is_non_overlapping_and_dense(), "adamw: parameter ", i, " is not dense");
      TORCH_CHECK(
          p[i].scalar_type() == p[0].scalar_type() && p[i].device() == p[0].device(),
          "adamw: parameter ", i, " differs from parameter 0 in kind or device");
      check_alike(p[i], g[i], "gradient", i, false);
      check_alike(p[i], m[i], "exp_avg", i, true);
      check_alike(p[i], v[i], "exp_avg_sq", i, true);
      TORCH_CHECK(
          m[i].strides() == p[i].strides() && v[i].strides() == p[i].strides(), "adamw: the moments of parameter ",
          i, " have other strides than it");
      TORCH_CHECK(
          s[i].numel() == 1 && s[i].scalar_type() == at::kFloat && s[i].device() == p[i].device(),
          "adamw: step ", i, " must be one f32 on the parameter's device");
      if (g[i].strides() != p[i].strides() || g[i].scalar_type() != p[i].scalar_type()) {
        g[i] = at::empty_like(p[i]).copy_(g[i]);
      }
    }
    at::_foreach_add_(s, 1);
    at::_fused_adamw_(
        p, g, m, v, /*max_exp_avg_sqs=*/{}, s, lr, beta1, beta2, weight_decay, eps, /*amsgrad=*/false,
        /*maximize=*/false);
  });
}

char* ft_global_norm(size_t count, ft_tensor* const* tensors, ft_tensor** norm) {
  return guarded([&] {
    const at::NoGradGuard no_grad;
    const auto list = copies(count, tensors);
    for (size_t i = 0; i < count; i++) {
      TORCH_CHECK(list[i].defined(), "gradient ", i, " is not defined");
    }
    const bool narrow = list[0].scalar_type() == at::kHalf || list[0].scalar_type() == at::kBFloat16;
    const auto kind = narrow ? std::optional<at::ScalarType>(at::kFloat) : std::nullopt;
    const auto norms = at::stack(at::_foreach_norm(list, 2, kind));
    *norm = new Tensor(at::linalg_vector_norm(norms, 2));
  });
}

char* ft_custom_function(
    size_t n_inputs, ft_tensor* const* inputs, size_t n_outputs, ft_tensor** outputs, bool always,
    void* closure, ft_backward_fn run, ft_drop_fn drop) {
  return guarded([&] {
    const auto shared = std::make_shared<Closure>(closure, run, drop);
    const auto sources = copies(n_inputs, inputs);
    // Fresh tensors over the same memory: the history of the ones handed in, if any, is cut.
    variable_list fresh;
    for (size_t i = 0; i < n_outputs; i++) {
      TORCH_CHECK(
          torch::autograd::isDifferentiableType(outputs[i]->scalar_type()), "custom function: output ", i,
          " has kind ", outputs[i]->scalar_type(), ", which cannot have a gradient");
      fresh.push_back(outputs[i]->detach());
    }
    const bool wanted = always || torch::autograd::any_variable_requires_grad(sources);
    if (at::GradMode::is_enabled() && wanted) {
      const auto node = c10::make_intrusive<RustBackward>(
          torch::autograd::collect_next_edges(sources), shared);
      torch::autograd::set_history(fresh, node);
    }
    std::vector<std::unique_ptr<Tensor>> owned;
    for (auto& tensor : fresh) {
      owned.push_back(std::make_unique<Tensor>(std::move(tensor)));
    }
    for (size_t i = 0; i < n_outputs; i++) {
      outputs[i] = owned[i].release();
    }
  });
}

char* ft_backward(const ft_tensor* loss, const ft_tensor* gradient) {
  return guarded([&] { loss->backward(gradient == nullptr ? Tensor() : *gradient); });
}

char* ft_from_blob(
    void* data, size_t n_dims, const int64_t* shape, int kind, void* owner, ft_drop_fn drop,
    ft_tensor** tensor) {
  return guarded([&] {
    const std::shared_ptr<void> held(owner, drop);
    const auto options = at::TensorOptions().dtype(static_cast<at::ScalarType>(kind));
    *tensor = new Tensor(at::from_blob(
        data, at::IntArrayRef(shape, n_dims), [held](void*) {}, options));
  });
}

char* ft_layout_of(const ft_tensor* tensor, ft_layout* layout) {
  return guarded([&] {
    TORCH_CHECK(tensor->defined(), "is not defined");
    TORCH_CHECK(tensor->is_cpu(), "must be on the CPU, got ", tensor->device());
    TORCH_CHECK(tensor->layout() == at::kStrided, "must be dense, got layout ", tensor->layout());
    TORCH_CHECK(!tensor->is_neg() && !tensor->is_conj(), "must not be a lazily negated view");
    TORCH_CHECK(tensor->dim() <= 4, "must have at most four dimensions, got ", tensor->dim());
    layout->data = tensor->mutable_data_ptr();
    layout->kind = static_cast<int>(tensor->scalar_type());
    layout->n_dims = static_cast<size_t>(tensor->dim());
    for (size_t i = 0; i < layout->n_dims; i++) {
      layout->size[i] = tensor->size(static_cast<int64_t>(i));
      layout->stride[i] = tensor->stride(static_cast<int64_t>(i));
    }
  });
}

char* ft_parallel_for(int64_t count, int64_t grain, const void* context, ft_range_fn body) {
  return guarded([&] {
    at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) { body(context, begin, end); });
  });
}
