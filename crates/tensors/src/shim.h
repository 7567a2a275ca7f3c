// The C interface between Rust and libtorch for what tch 0.26 does not bind.
//
// Conventions. A function that can fail returns null on success, else an error text that the caller frees
// with ft_free. No C++ exception leaves a function. `ft_tensor` is tch's handle (a heap-allocated
// at::Tensor): arguments are borrowed, results are owned by the receiver.
#pragma once

#include <cstddef>
#include <cstdint>

namespace at {
class Tensor;
}
using ft_tensor = at::Tensor;

extern "C" {

// Copies a text that Rust hands to C++ (the error of a callback).
char* ft_text(const char* bytes, size_t length);
void ft_free(char* text);

// Makes glibc's allocator keep what is freed; false where it cannot be told.
bool ft_keep_freed_memory();

// Gradient mode of this thread; returns what it was.
bool ft_set_grad_enabled(bool enabled);
bool ft_grad_enabled();
void ft_clear_grad(ft_tensor* tensor);

// Autocast state of this thread for one device type: -1 the CPU, 0 CUDA. `kind` is a c10::ScalarType.
struct ft_autocast {
  bool enabled;
  bool cache;
  int kind;
};
char* ft_autocast_get(int device, ft_autocast* state);
char* ft_autocast_set(int device, const ft_autocast* state);
void ft_autocast_enter();
void ft_autocast_leave();
void ft_autocast_clear_cache();

// State of the default generator of a device: -1 the CPU, else a CUDA index.
char* ft_generator_get(int device, ft_tensor** state);
char* ft_generator_set(int device, const ft_tensor* state);

char* ft_fused_adamw(
    size_t count, ft_tensor* const* params, ft_tensor* const* grads, ft_tensor* const* exp_avgs,
    ft_tensor* const* exp_avg_sqs, ft_tensor* const* steps, double lr, double beta1, double beta2,
    double weight_decay, double eps);
char* ft_global_norm(size_t count, ft_tensor* const* tensors, ft_tensor** norm);

// Fills `results`, one entry an input, with owned handles or null. Takes ownership of `grads`' handles.
// Returns null or an error text made by ft_text.
using ft_backward_fn = char* (*)(void* closure, ft_tensor** grads, size_t n_grads, ft_tensor** results,
                                 size_t n_results);
using ft_drop_fn = void (*)(void* closure);

// Puts a node between `inputs` and `outputs` whose backward is `run(closure, …)`, and replaces the handles
// in `outputs` by new ones. Owns `closure` from the call on, also when it fails. `always`: make the node
// even if no input requires a gradient.
char* ft_custom_function(
    size_t n_inputs, ft_tensor* const* inputs, size_t n_outputs, ft_tensor** outputs, bool always,
    void* closure, ft_backward_fn run, ft_drop_fn drop);
char* ft_backward(const ft_tensor* loss, const ft_tensor* gradient);

// A CPU tensor over foreign memory; `drop(owner)` runs once, when the last view is gone, or on failure.
char* ft_from_blob(
    void* data, size_t n_dims, const int64_t* shape, int kind, void* owner, ft_drop_fn drop,
    ft_tensor** tensor);

// Where the numbers of a CPU tensor of at most four dimensions lie; anything else is an error.
struct ft_layout {
  void* data;
  int kind;
  size_t n_dims;
  int64_t size[4];
  int64_t stride[4];
};
char* ft_layout_of(const ft_tensor* tensor, ft_layout* layout);

// at::parallel_for: `body` is called, on several threads at once, with ranges that together make 0 .. count.
// It must not throw.
using ft_range_fn = void (*)(const void* context, int64_t begin, int64_t end);
char* ft_parallel_for(int64_t count, int64_t grain, const void* context, ft_range_fn body);

} // extern "C"
